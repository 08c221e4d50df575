"""The two sides of an audit on disk: headers first, values by the piece, and whether the sides fit each other."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verify.artefact import OpenFile, TensorView, open_regular, plan_weights, read_layout, read_regular, shown
from verify.artefact.tensors import SIZES
from verify.artefact.weights import INDEX_LIMIT, INDEX_NAME, SINGLE_NAME
from verify.errors import UsageError
from verify.nf4.values import Bits

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LARGEST_SMALL_FILES = 256 * 1024 * 1024
"""Bytes that configuration and tokenizer may have together: they are read as a whole."""
_SMALL = (".json", ".jinja", ".model", ".txt")
_MISFIT = "give two folders of one model, before and after the edit, saved in one dtype"


@dataclass(frozen=True, eq=False)
class Weights:
    """A model's tensors in files that are open: where each lies, by name. Nothing but headers was read."""

    tensors: Mapping[str, tuple[OpenFile, TensorView]]

    def view(self, name: str) -> TensorView:
        """Return where a tensor lies."""
        return self.tensors[name][1]

    def read(self, name: str, start: int, stop: int) -> Bits:
        """Return the stored bits of values `start` to `stop` of a tensor, flat; ArtefactError MV101 if it shrank."""
        file, view = self.tensors[name]
        size = SIZES[view.dtype]
        values = np.empty(stop - start, f"<u{size}")
        file.read_into(values.view(np.uint8).data, view.start + start * size)
        return values

    def parameters(self) -> int:
        """Return the number of stored values."""
        return sum(view.count for _, view in self.tensors.values())


def folder_of(path: Path, what: str) -> Path:
    """Return the model folder that a user named, by itself or by its weight file; UsageError ME290 if there is none."""
    try:
        folder = path if path.is_dir() else path.parent
        found = "not a model" if path.exists() else "nothing there"
        if path.is_dir() or (path.exists() and path.name in (SINGLE_NAME, INDEX_NAME)):
            next(folder.iterdir(), None)  # it can be listed
            return folder
    except OSError as error:
        found = error.strerror or "unreadable"
    raise UsageError(
        f"{what}: there is no model folder",
        expected="a folder with config.json and weights in safetensors",
        found=f"{path}: {found}",
        remedy="check the path",
        error_id="ME290",
    )


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter; UsageError ME290 where it holds a whole model too."""
    if not (folder / ADAPTER_CONFIG).exists():
        return False
    whole = [name for name in (SINGLE_NAME, INDEX_NAME) if (folder / name).exists()]
    if whole:
        raise UsageError(
            "a folder holds a whole model and an adapter",
            expected="one of them: loaders disagree on which counts",
            found=f"{whole[0]} and {ADAPTER_CONFIG} in {shown(folder.name)}",
            remedy="move one of them elsewhere",
            error_id="ME290",
        )
    return True


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Open a model's weight files and read their headers.

    Raises ArtefactError MV101 (not a regular file), MV110 (not strict safetensors), MV111 (which files count). Other
    safetensors beside those that a loader takes are left alone: they are no part of the question.
    """
    names = [entry.name for entry in folder.iterdir()]
    plan = plan_weights(names, lambda name: read_regular(name, root=folder, limit=INDEX_LIMIT), alone=False)
    with ExitStack() as stack:
        files = {name: stack.enter_context(open_regular(name, root=folder)) for name in plan.files}
        layouts = {name: read_layout(file.read, file.size, name=name) for name, file in files.items()}
        matched = plan.matched(layouts)
        yield Weights(
            {name: (files[key], view) for key, layout in matched.files.items() for name, view in layout.tensors.items()}
        )
        for file in files.values():
            file.require_same_size()


def small_files(folder: Path) -> dict[str, bytes]:
    """Return configuration and tokenizer files (name → bytes) of a model folder; what else lies there is not read.

    Raises ArtefactError MV101 for links, and for more than `LARGEST_SMALL_FILES` bytes.
    """
    found: dict[str, bytes] = {}
    left = LARGEST_SMALL_FILES
    for path in sorted(folder.iterdir()):
        plain = path.suffix in _SMALL and not path.name.endswith(".index.json") and path.name != ADAPTER_CONFIG
        if plain and not path.is_dir() and not path.name.startswith((".", "README", "LICENSE")):
            found[path.name] = read_regular(path.name, root=folder, limit=left)
            left -= len(found[path.name])
    return found


def require_fit(base: Weights, edited: Weights, ignored: frozenset[str]) -> None:
    """Raise UsageError ME291 unless both sides have the same tensors, of one shape and dtype each.

    `ignored` names tensors that loaders take from another one (a tied output head).
    """
    mine, its = (side.tensors.keys() - ignored for side in (base, edited))
    for where, names in (("in the base only", mine - its), ("in the edited model only", its - mine)):
        if names:
            found = f"{shown(min(names))}, {where} ({len(names)} such)"
            raise _misfit("the two models have different tensors", "the same names on both sides", found)
    for name in sorted(mine):
        one, two = base.view(name), edited.view(name)
        if one.shape != two.shape:
            raise _misfit(
                f"tensor {shown(name)} has two shapes", f"{list(one.shape)}, as in the base", f"{list(two.shape)}"
            )
        if one.dtype != two.dtype:
            raise _misfit(f"tensor {shown(name)} has two dtypes", f"{one.dtype}, as in the base", two.dtype)


def _misfit(message: str, expected: str, found: str) -> UsageError:
    return UsageError(message, expected=expected, found=found, remedy=_MISFIT, error_id="ME291")
