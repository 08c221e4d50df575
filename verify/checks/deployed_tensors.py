"""The tensors of a deployed file against the certified ones: what NF4 makes of each, computed anew, bit for bit.

The deployed files are read once, hashed as a whole and tensor by tensor. The certified weights are then read once more
in the order of their files, hashed again (they must be the bytes that the certificate's checks hashed), cast and
quantized, and what comes out is held against the deployed digests. A tensor is in memory only while it is looked at.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from verify.artefact import Layout, ModelFiles, OpenFile, TensorView, open_regular, shown
from verify.artefact.bnb import ABSMAX, MAP, NESTED_ABSMAX, NESTED_BLOCK, NESTED_MAP, State
from verify.artefact.tensors import SIZES
from verify.artefact.torch_tensors import DTYPES
from verify.behaviour.loading import empty_model, open_config
from verify.behaviour.modules import cast_of
from verify.checks.architecture import Skip
from verify.checks.evidence import Evidence
from verify.errors import ArtefactError
from verify.nf4 import double_quantize, quantize
from verify.nf4.codebook import LEVELS_F32
from verify.nf4.dynamic import ROUNDING, dynamic_map

CODES, SCALES, PLAIN = "MV706", "MV707", "MV708"
"""The checks that a tensor's difference belongs to."""
_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
_PIECE = 1 << 22
_PADDING = 7
"""The code that fills the last byte of an odd number of values: that of zero."""

Progress = Callable[[int], None]
"""Called with the number of bytes just read."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """What is to come of each certified tensor.

    `dtypes` is what every one is cast to, `states` how those that are quantized then are, each with the matrix' right
    shape; `transposed` are those turned before they are cut, and `skip` is the profile's skip list.
    """

    states: Mapping[str, State]
    dtypes: Mapping[str, str]
    transposed: frozenset[str]
    tied: tuple[str, str] | None
    skip: Skip

    def names(self, tensor: str) -> tuple[str, ...]:
        """Return the names under which a certified tensor may be deployed: of a tied pair, both."""
        return self.tied if self.tied is not None and tensor in self.tied else (tensor,)


@dataclass(eq=False)
class Digests:
    """What the one reading of the deployed files gave: the digest of each file and of each tensor."""

    files: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, bytes] = field(default_factory=dict)


@dataclass(eq=False)
class Differences:
    """What differs, in words, by check and tensor, and how many tensors were compared."""

    found: dict[str, dict[str, str]] = field(default_factory=lambda: {CODES: {}, SCALES: {}, PLAIN: {}})
    compared: set[str] = field(default_factory=set)

    def note(self, check: str, tensor: str, text: str) -> None:
        """Keep the first difference of a tensor."""
        self.found[check].setdefault(tensor, text)

    def tensors(self) -> list[str]:
        """Return the certified names of all tensors that differ."""
        return sorted({tensor for found in self.found.values() for tensor in found})


def scheme(states: Mapping[str, State], skip: Skip, dtype: str, evidence: Evidence) -> Scheme:
    """Return what a profile and the stored states make of the certified model, loaded as `dtype` (BF16, F16 or F32).

    Raises ArtefactError MV106 where no model can be built from the certified configuration.
    """
    model = empty_model(open_config(evidence.others))
    structure = evidence.architecture
    names = {*evidence.weights.tensors(), *(structure.tied or ())}
    dtypes = {name: _NAMES[cast_of(model, name, DTYPES[dtype])] for name in names}
    found = {}
    for entry in structure.quantized[skip]:
        if entry.name in states:
            shape = structure.shapes[entry.name]
            found[entry.name] = replace(states[entry.name], shape=shape[::-1] if entry.transposed else shape)
    return Scheme(found, dtypes, structure.transposed(), structure.tied, skip)


def wanted(scheme: Scheme, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return every tensor that the deployed file should have, with its dtype and shape."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        state = scheme.states.get(name)
        if state is None:
            found[name] = (scheme.dtypes[name], shape)
            continue
        found[name] = ("U8", (-(-state.count // 2), 1))
        found[name + ABSMAX] = ("F32" if state.offset is None else "U8", (state.blocks,))
        found[name + MAP] = ("F32", (len(LEVELS_F32),))
        if state.offset is not None:
            found[name + NESTED_ABSMAX] = ("F32", (-(-state.blocks // NESTED_BLOCK),))
            found[name + NESTED_MAP] = ("F32", (256,))
    return found


def digest(file: OpenFile, layout: Layout, found: Digests, *, progress: Progress) -> None:
    """Hash a deployed file once, as a whole and tensor by tensor; ArtefactError MV101 if it changes meanwhile."""
    if file.size != layout.size or file.read(0, len(layout.head)) != layout.head:
        raise ArtefactError("MV101", f"{shown(file.name)} changed while it was read", expected="the header as parsed")
    whole = hashlib.sha256(layout.head)
    for name, view in sorted(layout.tensors.items(), key=lambda item: item[1].start):
        own = hashlib.sha256()
        for part in _parts(file, view):
            whole.update(part)
            own.update(part)
            progress(len(part))
        found.tensors[name] = own.digest()
    file.require_same_size()
    found.files[file.name] = whole.hexdigest()


def compare(
    evidence: Evidence,
    deployed: ModelFiles[Layout],
    folder: Path,
    scheme: Scheme,
    digests: Digests,
    *,
    progress: Progress,
) -> Differences:
    """Hold every certified tensor against its deployed form, if the file has one.

    Raises ArtefactError MV101 if the certified files are no longer those that were examined, and MV201 for a weight
    that the cast makes infinite.
    """
    work = _Comparison(deployed, folder, scheme, digests, Differences())
    for name, layout in evidence.weights.files.items():
        with open_regular(name, root=evidence.place.model) as file:
            whole = hashlib.sha256(layout.head)
            for tensor, view in sorted(layout.tensors.items(), key=lambda item: item[1].start):
                for part in work.take(tensor, view, file):
                    whole.update(part)
                    progress(len(part))
            file.require_same_size()
        if whole.hexdigest() != evidence.scan.sha256[name]:
            message = f"{shown(name)} of the certified model changed since it was examined"
            raise ArtefactError("MV101", message, expected=evidence.scan.sha256[name], found=whole.hexdigest())
    return work.differences


@dataclass(frozen=True, eq=False)
class _Comparison:
    deployed: ModelFiles[Layout]
    folder: Path
    scheme: Scheme
    digests: Digests
    differences: Differences

    def take(self, tensor: str, view: TensorView, file: OpenFile) -> Iterator[bytearray]:
        """Yield the bytes of a certified tensor as they are read, and compare what NF4 makes of them."""
        state = self.scheme.states.get(tensor)
        if state is not None:
            data = bytearray(view.stop - view.start)
            file.read_into(memoryview(data), view.start)
            yield data
            self._quantized(tensor, _values(data, view.dtype).reshape(view.shape), state)
            return
        own = hashlib.sha256()
        dtype = self.scheme.dtypes[tensor]
        for part in _parts(file, view):
            yield part
            own.update(_bytes(_values(part, view.dtype).to(DTYPES[dtype])))
        for name in self.scheme.names(tensor):
            if name in self.digests.tensors:
                self.differences.compared.add(name)
                if self.digests.tensors[name] != own.digest():
                    self.differences.note(
                        PLAIN, name, f"{shown(name)}: other values than the certified ones as {dtype}"
                    )

    def _quantized(self, name: str, weight: Tensor, state: State) -> None:
        cast = weight.to(DTYPES[state.dtype])
        matrix = cast.T.contiguous() if name in self.scheme.transposed else cast
        quantized = quantize(matrix, block_size=state.block_size, name=name)
        self._same(CODES, name, name, packed(quantized.codes))
        scales = quantized.absmax
        self._same(SCALES, name, name + MAP, LEVELS_F32.astype("<f4").tobytes())
        if state.offset is None:
            self._same(SCALES, name, name + ABSMAX, _bytes(scales))
            return
        mean = float(scales.double().mean())
        if abs(state.offset - mean) > float(ROUNDING) * abs(mean):
            text = f"{shown(name)}: nested_offset {state.offset:.9g}, the scales' mean is {mean:.9g}"
            self.differences.note(SCALES, name, text)
        nested = double_quantize(scales, offset=state.offset)
        self._same(SCALES, name, name + ABSMAX, _bytes(nested.codes))
        self._same(SCALES, name, name + NESTED_ABSMAX, _bytes(nested.absmax))
        self._same(SCALES, name, name + NESTED_MAP, dynamic_map().astype("<f4").tobytes())

    def _same(self, check: str, weight: str, name: str, expected: bytes) -> None:
        """Compare one deployed tensor with its expected bytes; where it differs, read it again to say how much."""
        self.differences.compared.add(weight)
        known = self.digests.tensors.get(name)
        if known is None or known == hashlib.sha256(expected).digest():
            return
        layout = self.deployed.holder(name)
        view = layout.tensors[name]
        with ExitStack() as stack:
            file = stack.enter_context(open_regular(layout.name, root=self.folder))
            data = file.read(view.start, view.stop)
        count, first, total = _differing(data, expected, SIZES[view.dtype], nibbles=check == CODES)
        what = "codes" if check == CODES else "values"
        self.differences.note(check, weight, f"{shown(name)}: {count:,} of {total:,} {what}, the first at {first:,}")


def packed(codes: Tensor) -> bytes:
    """Return 4-bit codes as bitsandbytes packs them: two a byte, the first in the high nibble."""
    flat = codes.reshape(-1).numpy()
    if flat.size % 2:
        flat = np.append(flat, np.uint8(_PADDING))
    data: bytes = ((flat[::2] << 4) | flat[1::2]).astype(np.uint8).tobytes()
    return data


def _differing(data: bytes, expected: bytes, size: int, *, nibbles: bool) -> tuple[int, int, int]:
    """Return how many elements of two buffers differ, the first of them, and the number of elements."""
    kind = np.dtype(f"<u{size}")
    one, other = np.frombuffer(data, kind), np.frombuffer(expected, kind)
    if nibbles:
        one, other = (np.stack((part >> 4, part & 15), axis=1).reshape(-1) for part in (one, other))
    places = np.flatnonzero(one != other)
    return places.size, int(places[0]) if places.size else 0, one.size


def _parts(file: OpenFile, view: TensorView) -> Iterator[bytearray]:
    for start in range(view.start, view.stop, _PIECE):
        part = bytearray(min(_PIECE, view.stop - start))
        file.read_into(memoryview(part), start)
        yield part


def _values(data: bytearray, dtype: str) -> Tensor:
    """Return stored bytes as a flat tensor of their dtype."""
    bits = np.frombuffer(data, f"<u{SIZES[dtype]}").astype(f"=u{SIZES[dtype]}", copy=False)
    return torch.from_numpy(bits).view(DTYPES[dtype])


def _bytes(tensor: Tensor) -> bytes:
    size = tensor.dtype.itemsize
    bits = tensor.contiguous().view(getattr(torch, f"uint{8 * size}")).numpy()
    return bits.astype(f"<u{size}", copy=False).tobytes()
