"""The four models of an audit, loaded when asked for: one is in memory, or two where the base lends its layers."""

import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from verify.artefact.torch_tensors import DTYPES
from verify.audit.compare import Sides
from verify.audit.deployment import Deployment
from verify.behaviour.loading import Language, build, into_nf4, open_folder
from verify.checks.study import Which

Progress = Callable[[str, int, int], None]
"""Called with a step's title, and how far it is of how much."""

_FULL: Mapping[Which, Which] = {"base_nf4": "base", "edited_nf4": "edited"}
"""Which model each NF4 model is made of."""
_TITLES: Mapping[Which, str] = {"base": "Loading the base", "edited": "Loading the edited model"}


class Models(Mapping[Which, Language]):
    """Base and edited model in full precision, as their configurations cast them, and after NF4, all float32.

    To ask for one is to lose the one before: it is freed, or, where the next is its own NF4 form, becomes it.
    """

    def __init__(
        self,
        sides: Sides,
        files: tuple[Mapping[str, bytes], Mapping[str, bytes]],
        deployment: Deployment,
        *,
        progress: Progress,
    ) -> None:
        """Read the configurations from the small `files` of base and edited model, and load nothing yet.

        Here and later: ArtefactError MV106 where a folder cannot be used, MV302 where NF4 does not give the codes it
        should.
        """
        self._sides, self._deployment, self._progress = sides, deployment, progress
        base = open_folder(files[0])
        self._opened = base, base if files[1] is files[0] else open_folder({**files[0], **files[1]})
        self._base: Language | None = None
        self._current: tuple[Which, Language] | None = None

    @property
    def tokenizer(self) -> Any:
        """The base's tokenizer, through which all models are asked."""
        return self._opened[0].tokenizer

    def keep_base(self) -> Language:
        """Return the base in full precision, and keep it from now on beside the model asked for."""
        if self._base is None:
            self._free()
            self._base = self._load("base")
        return self._base

    def __getitem__(self, which: Which) -> Language:
        if which == "base" and self._base is not None:
            return self._base
        if self._current is None or self._current[0] != which:
            self._current = which, self._made(which)
        return self._current[1]

    def __iter__(self) -> Iterator[Which]:
        yield from ("base", "base_nf4", "edited", "edited_nf4")

    def __len__(self) -> int:
        return 4

    def _made(self, which: Which) -> Language:
        """Return a model that is not there, from the one that is or from the files."""
        source = _FULL.get(which, which)
        held = self._current
        if held is not None and held[0] == source:
            self._current = None
            language = held[1]
        else:
            held = None
            self._free()
            language = self._load(source)
        if source == which:
            return language
        at = 0 if source == "base" else 1
        return into_nf4(language, self._stored(at), skip_modules=self._deployment.skip)

    def _free(self) -> None:
        self._current = None
        gc.collect()  # a module that somebody hooked may be part of a circle

    def _load(self, source: Which) -> Language:
        at = 0 if source == "base" else 1
        tensors = _Tensors(self._sides, at, self._deployment, lambda *far: self._progress(_TITLES[source], *far))
        return Language(build(self._opened[at], tensors).model, self.tokenizer)

    def _stored(self, at: int) -> torch.dtype:
        """Return the dtype that dequantized weights are computed in: the configuration's, else that of the weights."""
        first = next(iter(self._deployment.quantized), None)
        own = None if first is None else self._sides.base.view(first).dtype
        return DTYPES[self._deployment.named[at] or own or "F32"]


class _Tensors(Mapping[str, Tensor]):
    """The tensors of one side as they are cast on loading, each read when it is asked for and not kept."""

    def __init__(self, sides: Sides, side: int, deployment: Deployment, progress: Callable[[int, int], None]) -> None:
        self._sides, self._side, self._named = sides, side, deployment.named[side]
        self._names = sorted(sides.base.tensors.keys() - deployment.ignored)
        self._progress, self._read = progress, 0

    def __getitem__(self, name: str) -> Tensor:
        view = self._sides.base.view(name)
        bits = self._sides.piece(name, 0, view.count)[self._side]
        stored = torch.from_numpy(bits.view(f"i{bits.dtype.itemsize}")).view(DTYPES[view.dtype]).reshape(view.shape)
        self._read += 1
        self._progress(min(self._read, len(self._names)), len(self._names))
        return stored if self._named is None or not stored.is_floating_point() else stored.to(DTYPES[self._named])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
