"""The five rows of permanence, and which moves satisfy them (docs/floor.md).

One rule, `_judge`, decides the rows of one masked value; it is compiled once and serves the verifier's stream, whole
tensors in memory, and the engine's search for valid values. Rows compare in float64, where products of a float32 scale
and a float32 width are exact. No torch here: the static verifier starts without it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from verify.nf4.codebook import BLOCK_SIZE, LEVELS_F32, THRESHOLDS_F32, WIDTHS_F32
from verify.nf4.rows import CROSSING, FLOOR, MARGIN, REALISED, REALISED_DOUBLE, ROW_IDS

if TYPE_CHECKING:
    from torch import Tensor

_CLAMP = np.float32(1e-38)  # as in the reference quantizer
SMALLEST_SCALE, LARGEST_SCALE = np.float32(2.0**-121), np.float32(2.0**126)
"""Scales for which every backend rounds as theorems T10 and T11 say; others have no margin, whatever the distance."""

_LEVELS64, _THRESHOLDS64, _WIDTHS64 = (a.astype(np.float64) for a in (LEVELS_F32, THRESHOLDS_F32, WIDTHS_F32))

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """The scales of n masked values before and after the edit, float32 `[n]` each.

    `before` and `after` are the absmax that codes are computed with. The others are what double quantization deploys
    them as: the least and the greatest that any backend's rounding can give. `divides` says where the reference divides
    by the scale (in a short last block) instead of multiplying by its reciprocal.
    """

    before: Float32s
    after: Float32s
    low_before: Float32s
    low_after: Float32s
    high_before: Float32s
    high_after: Float32s
    divides: NDArray[np.bool_]

    @classmethod
    def plain(cls, before: Float32s, after: Float32s, divides: NDArray[np.bool_]) -> "Scales":
        """Return the scales of a deployment without double quantization."""
        return cls(before, after, before, after, before, after, divides)

    def at(self, places: NDArray[np.int64]) -> "Scales":
        """Return the scales of some of the values, by their positions."""
        return Scales(*(getattr(self, name)[places] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the rows say of n masked values, `[n]` each.

    `rows` is a byte of row bits (`SCALE` is left to the caller, who knows the block); codes are uint8; `half_bins` is
    the update in half bins, and `distance` the margin in units of the block's absmax, float64.
    """

    rows: NDArray[np.uint8]
    codes_before: NDArray[np.uint8]
    codes_after: NDArray[np.uint8]
    half_bins: Float64s
    distance: Float64s

    def replaced(self, places: NDArray[np.int64], others: "Judged") -> "Judged":
        """Return a copy with other answers at some positions."""
        columns = [getattr(self, name).copy() for name in self.__slots__]
        for column, name in zip(columns, self.__slots__, strict=True):
            column[places] = getattr(others, name)
        return Judged(*columns)


@njit(cache=True, nogil=True, error_model="numpy")
def code_of(w: np.float32, s: np.float32, divides: bool) -> int:
    """Count the thresholds strictly below w / s, as the reference quantizer rounds it."""
    clamped = max(s, _CLAMP)
    x = w / clamped if divides else w * (np.float32(1) / clamped)
    code = 8 if x > THRESHOLDS_F32[7] else 0  # a binary search: the thresholds ascend
    code += 4 if x > THRESHOLDS_F32[code + 3] else 0
    code += 2 if x > THRESHOLDS_F32[code + 1] else 0
    return code + (1 if x > THRESHOLDS_F32[code] else 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(w: np.float32, s: np.float32, w1: np.float32, s1: np.float32, code1: int) -> float:
    """Return how far w1 / s1 is from the nearest threshold or w / s from the cell of code1, whichever is less."""
    x, x1 = np.float64(w) / np.float64(s), np.float64(w1) / np.float64(s1)
    # the nearest threshold bounds the code's own cell, even where rounding put a value next to it on the other side
    inside = np.inf
    if code1 > 0:
        inside = abs(x1 - _THRESHOLDS64[code1 - 1])
    if code1 < 15:
        inside = min(inside, abs(x1 - _THRESHOLDS64[code1]))
    below = _THRESHOLDS64[code1 - 1] - x if code1 > 0 else -np.inf
    above = x - _THRESHOLDS64[code1] if code1 < 15 else -np.inf
    distance = min(inside, max(below, above))
    return 0.0 if np.isnan(distance) or np.isnan(x) or np.isnan(x1) else distance  # 0/0 in an all-zero block


@njit(cache=True, nogil=True, error_model="numpy")
def _realised(k: int, k1: int, s: np.float32, s1: np.float32, moved: float, half: float) -> bool:
    """Tell whether the dequantized weight moves the way `moved` says, by at least `half`."""
    change = np.float64(LEVELS_F32[k1] * s1) - np.float64(LEVELS_F32[k] * s)
    return bool((change >= half and moved > 0) or (-change >= half and moved < 0))


@njit(cache=True, nogil=True)
def _in_range(s: np.float32) -> bool:
    return bool(SMALLEST_SCALE <= s <= LARGEST_SCALE)


@njit(cache=True, nogil=True, error_model="numpy")
def _judge(base: Any, edited: Any, scales: Any, divides: Any, margin: float, out: Any) -> None:
    before, after, low_before, low_after, high_before, high_after = scales
    rows, codes_before, codes_after, half_bins, distance = out
    for i in range(base.size):
        w, w1, s, s1 = base[i], edited[i], before[i], after[i]
        k, k1 = code_of(w, s, divides[i]), code_of(w1, s1, divides[i])
        moved = np.float64(w1) - np.float64(w)
        half = np.float64(s) * _WIDTHS64[k] / 2
        gap = _distance(w, s, w1, s1, k1)
        found = FLOOR if abs(moved) >= half else 0
        found |= CROSSING if k != k1 else 0
        found |= MARGIN if gap >= margin and _in_range(s) and _in_range(s1) else 0
        found |= REALISED if _realised(k, k1, s, s1, moved, half) else 0
        low = _realised(k, k1, low_before[i], low_after[i], moved, half)
        if low and _realised(k, k1, high_before[i], high_after[i], moved, half):
            found |= REALISED_DOUBLE
        rows[i], codes_before[i], codes_after[i] = found, k, k1
        half_bins[i] = abs(moved) / half if half > 0 else 0.0
        distance[i] = gap


def judge(base: Float32s, edited: Float32s, scales: Scales, *, margin: float) -> Judged:
    """Decide every row but `scale` for n values, float32 `[n]`, at the scales given."""
    n = base.size
    out = (np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n), np.zeros(n))
    absmax = (scales.before, scales.after)
    deployed = (scales.low_before, scales.low_after, scales.high_before, scales.high_after)
    _judge(base, edited, absmax + deployed, scales.divides, margin, out)
    return Judged(*out)


@dataclass(frozen=True, slots=True)
class Survival:
    """What the five rows say of one tensor in memory, per masked value; torch tensors `[masked]`.

    `rows[id]` is bool, in the order of `indices` (flat, int64). `half_bins` is the update in half bins and `margin` the
    distance in units of the block's absmax, float64; codes are uint8. `collateral` counts unmasked values of the whole
    tensor whose code changed.
    """

    indices: "Tensor"
    rows: dict[str, "Tensor"]
    half_bins: "Tensor"
    margin: "Tensor"
    codes_before: "Tensor"
    codes_after: "Tensor"
    collateral: int

    def violations(self, row: str) -> "Tensor":
        """Return the flat indices (int64) that violate a row."""
        return self.indices[~self.rows[row]]


def survival(
    base: "Tensor", edited: "Tensor", indices: "Tensor", *, margin: float = 2.0**-7, block_size: int = BLOCK_SIZE
) -> Survival:
    """Check the five rows for the masked values of one tensor.

    `base` and `edited` have one shape and a floating dtype; `indices` are flat int64 positions of the mask.
    Raises `ArtefactError` MV201 when either holds NaN or infinity.
    """
    import torch  # noqa: PLC0415  (only this form needs it)

    from verify.nf4.quantize import quantize  # noqa: PLC0415

    before, after = (quantize(weight, block_size=block_size) for weight in (base, edited))
    changed = before.codes.reshape(-1) != after.codes.reshape(-1)
    changed[indices] = False
    block = indices // block_size
    drifted = torch.zeros_like(before.absmax, dtype=torch.bool)
    drifted[changed.nonzero().reshape(-1) // block_size] = True
    count = base.numel()
    divides = indices >= count // block_size * block_size
    scales = Scales.plain(before.absmax[block].numpy(), after.absmax[block].numpy(), divides.numpy())
    old, new = (weight.detach().reshape(-1)[indices].float().numpy() for weight in (base, edited))
    found = judge(old, new, scales, margin=margin)
    rows = {name: torch.from_numpy((found.rows >> bit & 1).astype(bool)) for bit, name in enumerate(ROW_IDS)}
    rows["scale"] = (before.absmax[block] == after.absmax[block]) | ~drifted[block]
    return Survival(
        indices=indices,
        rows=rows,
        half_bins=torch.from_numpy(found.half_bins),
        margin=torch.from_numpy(found.distance),
        codes_before=torch.from_numpy(found.codes_before),
        codes_after=torch.from_numpy(found.codes_after),
        collateral=int(changed.sum()),
    )


def floor_targets(base: "Tensor", scale: "Tensor", code: "Tensor", *, margin: float) -> "Tensor":
    """Return which interior levels a masked value may move to so that all five rows hold at a fixed scale.

    `base`, `scale` float32 and `code` integer, all `[n]`. The answer is bool `[n, 16]`: level j is another interior
    code's, at least half a bin away from w *and* from its dequantized value, with w at least `margin` outside the
    cell of j. This is the construction of docs/floor.md.
    """
    import torch  # noqa: PLC0415

    level, threshold, width = (torch.from_numpy(a) for a in (_LEVELS64, _THRESHOLDS64, _WIDTHS64))
    levels = level[None, :]
    half = (width[code.long()] / 2)[:, None]
    x = (base.double() / scale.double())[:, None]
    bounds = torch.cat([level[:1] - 1, threshold, level[-1:] + 1])
    outside = torch.maximum(bounds[:-1][None] - x, x - bounds[1:][None])
    dequantized = level[code.long()][:, None]
    same_way = torch.sign(levels - x) == torch.sign(levels - dequantized)
    # so much more than half a bin that rounding the level to bfloat16 cannot fall short of it (theorem T12)
    far = ((levels - x).abs() >= half * (1 + 2.0**-5)) & ((levels - dequantized).abs() >= half)
    valid = far & same_way & (outside >= margin)
    valid[:, 0] = False
    valid[:, -1] = False
    return valid & (scale > 0)[:, None]
