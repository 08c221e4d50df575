"""A deployed folder: how it is found among models, and what is read of it before anything is compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verify.artefact import Layout, ModelFiles, open_regular, plan_weights, read_layout, read_regular, shown, walk
from verify.artefact.bnb import STATE, State, parse_state, states_of
from verify.artefact.weights import INDEX_LIMIT
from verify.checks.evidence import LARGEST_SMALL_FILES, MODEL, Evidence
from verify.errors import ArtefactError, MansuError, UsageError

_ROOM = 64 * 1024 * 1024
"""Bytes of headers and states that a deployed file may have beyond twice the certified weights."""


@dataclass(frozen=True)
class Target:
    """A folder that was deployed, the file of it that the user named if any, and the certified model's folder."""

    folder: Path
    given: str | None
    certified: Path


def locate(model: Path, manifest: Path, certified: Path | None) -> Target | None:
    """Tell whether the model to be checked is a deployed file, and of which certified model; None where it is none.

    `certified` is what the user gave; the default is `model/` beside the manifest. Raises UsageError where a certified
    model is given but is the very folder to be checked, or where there is none.
    """
    folder = model if model.is_dir() else model.parent
    beside = manifest.parent / MODEL.rstrip("/")
    if certified is None and (_same_place(folder, beside) or not _is_quantized(folder)):
        return None
    found = certified or beside
    if not found.exists():
        raise UsageError(
            f"{model} is quantized already, and there is no certified model to compare it with",
            expected=f"the certified model in full precision, at {found}",
            remedy="name it: --certified MODEL",
        )
    if _same_place(found if found.is_dir() else found.parent, folder):
        raise UsageError("--certified names the folder to be checked", remedy="name the model in full precision")
    return Target(folder, None if model.is_dir() else model.name, found)


def _same_place(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _is_quantized(folder: Path) -> bool:
    """Tell whether a folder's weights hold quantization states; what cannot be read, the other checks refuse."""
    try:
        plan = plan_weights(walk(folder), lambda name: read_regular(name, root=folder, limit=INDEX_LIMIT))
        for name in plan.files:
            with open_regular(name, root=folder) as file:
                if any(STATE in tensor for tensor in read_layout(file.read, file.size, name=name).tensors):
                    return True
    except MansuError:
        return False
    return False


@dataclass(frozen=True, eq=False)
class Folder:
    """A deployed folder as it was read: the layouts of its weight files, its other files, and every state's bytes."""

    path: Path
    weights: ModelFiles[Layout]
    others: Mapping[str, bytes]
    states: Mapping[str, tuple[str, bytes]]

    def parsed(self) -> dict[str, State]:
        """Return the state of every quantized weight; ArtefactError MV704 for one that is not well formed."""
        return {
            weight: parse_state(data, weight=weight, tensor=tensor) for weight, (tensor, data) in self.states.items()
        }


def read(target: Target, evidence: Evidence) -> Folder:
    """Read headers, states and small files; ArtefactError for a folder that is no model's, or larger than it can be."""
    names = walk(target.folder)
    plan = plan_weights(names, lambda name: read_regular(name, root=target.folder, limit=INDEX_LIMIT))
    if target.given is not None and target.given not in {*plan.files, plan.index}:
        message = "the file given is not one that a loader takes"
        raise ArtefactError("MV701", message, expected=", ".join(plan.files), found=shown(target.given))
    layouts: dict[str, Layout] = {}
    states: dict[str, tuple[str, bytes]] = {}
    for name in plan.files:
        with open_regular(name, root=target.folder) as file:
            layouts[name] = read_layout(file.read, file.size, name=name)
            for weight, tensor in states_of(layouts[name].tensors).items():
                view = layouts[name].tensors[tensor]
                states[weight] = (tensor, file.read(view.start, view.stop))
    weights = plan.matched(layouts)
    largest = 2 * sum(layout.size for layout in evidence.weights.files.values()) + _ROOM
    size = sum(layout.size for layout in layouts.values())
    if size > largest:
        message = "larger than any NF4 form of the certified model"
        raise ArtefactError("MV701", message, expected=f"at most {largest:,} bytes", found=f"{size:,} bytes")
    others, left = {}, LARGEST_SMALL_FILES
    for name in sorted(set(names) - layouts.keys()):
        others[name] = read_regular(name, root=target.folder, limit=left)
        left -= len(others[name])
    return Folder(target.folder, weights, others, states)
