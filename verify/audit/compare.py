"""The two sides compared tensor by tensor, in pieces of whole blocks: memory does not grow with the model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from verify.artefact import TensorView, shown
from verify.audit.deployment import FLOATS, Deployment
from verify.audit.kernels import CHANGED, count_plain, count_quantized, first_not_finite
from verify.audit.tally import Tally
from verify.audit.weights import Weights
from verify.errors import UsageError
from verify.nf4.rows import LARGEST_BLOCK, Cast
from verify.nf4.values import Bits, magnitude_mask, values_of

PIECE = 1 << 20
"""Values that are read at a time, of each side: whole blocks, of any size that NF4 knows."""
assert PIECE % LARGEST_BLOCK == 0

_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}

Progress = Callable[[int], None]
"""Called with the number of values just compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One tensor: where it lies, whether NF4 quantizes it, and what was counted."""

    name: str
    view: TensorView
    quantized: bool
    tally: Tally


class Merger(Protocol):
    """What edits a base instead of a second model: an adapter (`verify.audit.lora`, which needs torch)."""

    def merged(self, name: str, start: int, base: Bits, dtype: str) -> Bits:
        """Return the edited bits of a tensor from the base's, from flat index `start` on."""


@dataclass(frozen=True, eq=False)
class Sides:
    """The pair: the base, and the edited weights or an adapter over the base."""

    base: Weights
    edited: Weights | Merger

    def piece(self, name: str, start: int, stop: int) -> tuple[Bits, Bits]:
        """Return the bits of values `start` to `stop` of a tensor in the base and in the edited model."""
        base = self.base.read(name, start, stop)
        if isinstance(self.edited, Weights):
            return base, self.edited.read(name, start, stop)
        return base, self.edited.merged(name, start, base, self.base.view(name).dtype)


def compare(sides: Sides, deployment: Deployment, *, progress: Progress) -> Iterator[Compared]:
    """Yield every tensor with its counts, in the order in which they lie in the base's files.

    Raises UsageError ME292 for NaN, infinity or a cast that makes one, ME295 for a quantized tensor of another dtype
    than float32, bfloat16 and float16, ArtefactError MV101 for a file that changes meanwhile.
    """
    names = sorted(sides.base.tensors.keys() - deployment.ignored, key=lambda name: _place(sides.base, name))
    for name in names:
        view = sides.base.view(name)
        quantized = name in deployment.quantized
        if quantized and view.dtype not in FLOATS:
            raise UsageError(
                f"tensor {shown(name)} cannot be quantized",
                expected=", ".join(FLOATS),
                found=f"{view.dtype}: the weights may be quantized already",
                remedy="give the folder with the weights as they were before they were quantized",
                error_id="ME295",
            )
        tally = Tally()
        for start, base, edited in _pieces(sides, name, view, turned=deployment.quantized.get(name, False)):
            _take(name, view, start, base, edited, deployment if quantized else None, tally)
            progress(base.size)
        yield Compared(name, view, quantized, tally)


def _place(weights: Weights, name: str) -> tuple[str, int]:
    file, view = weights.tensors[name]
    return file.name, view.start


def _pieces(sides: Sides, name: str, view: TensorView, *, turned: bool) -> Iterator[tuple[int, Bits, Bits]]:
    """Yield flat positions and bits; of a tensor that is turned before it is cut, as it is then.

    Such a tensor (GPT-2's) is read whole: its blocks run across the file.
    """
    if turned:
        rows, columns = view.shape
        whole = [side.reshape(rows, columns).T for side in sides.piece(name, 0, view.count)]
        step = max(1, PIECE // LARGEST_BLOCK) * LARGEST_BLOCK
        flat = [np.ascontiguousarray(side).reshape(-1) for side in whole]
        for start in range(0, view.count, step):
            yield start, flat[0][start : start + step], flat[1][start : start + step]
        return
    for start in range(0, view.count, PIECE):
        yield start, *sides.piece(name, start, min(start + PIECE, view.count))


def _take(
    name: str, view: TensorView, start: int, base: Bits, edited: Bits, deployment: Deployment | None, tally: Tally
) -> None:
    """Count one piece; `deployment` is None for a tensor that NF4 leaves as it is."""
    same = edited is base or np.array_equal(base, edited)
    if view.dtype not in FLOATS:
        tally.counts[CHANGED] += 0 if same else np.count_nonzero(base != edited)
        return
    for side, bits in (("base", base), ("edited", edited)):
        if side == "base" or not same:
            _require_finite(name, view, start, side, bits)
    casts: tuple[Cast, Cast] = ("none", "none") if deployment is None else deployment.casts(view.dtype)
    if same and casts[0] == casts[1] == "none":
        return
    stored = values_of(base, view.dtype), values_of(edited, view.dtype)
    if deployment is None:
        count_plain(*stored, tally.counts, tally.sums, tally.sizes)
        return
    quantized = stored
    if casts != ("none", "none"):
        quantized = values_of(base, view.dtype, casts[0]), values_of(edited, view.dtype, casts[1])
        for side, values in zip(("base", "edited"), quantized, strict=True):
            if not np.isfinite(values).all():
                raise _not_finite(name, view, start + int(np.flatnonzero(~np.isfinite(values))[0]), side, "its cast")
    short = view.count // deployment.block_size * deployment.block_size - start
    count_quantized(
        stored, quantized, deployment.block_size, short, tally.counts, tally.sums, tally.sizes, tally.ratios
    )


def _require_finite(name: str, view: TensorView, start: int, side: str, bits: Bits) -> None:
    mask = magnitude_mask(bits)
    bad = first_not_finite(bits, mask, bits.dtype.type(_INFINITY[view.dtype]))
    if bad >= 0:
        raise _not_finite(name, view, start + bad, side, "a value")


def _not_finite(name: str, view: TensorView, index: int, side: str, what: str) -> UsageError:
    return UsageError(
        f"tensor {shown(name)} of the {side} model: {what} is not a finite number",
        expected="finite values only",
        found=f"flat index {index:,} of {view.count:,}",
        remedy="reject the file: no quantizer defines a code for it",
        error_id="ME292",
    )
