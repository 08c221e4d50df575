"""Inner loops over one piece of a tensor: what changed, which codes, and what is left of it after NF4. No torch.

Codes are those of `verify.nf4.survival.code_of`, which is the reference quantizer's rule; scales are float32 absmax.
Comparisons and sums run in float64, where products of a float32 scale and a float32 width are exact.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from verify.nf4.codebook import LEVELS_F32, WIDTHS_F32
from verify.nf4.survival import code_of

COUNTS = ("changed", "below_half_bin", "whole_bin", "crossed", "identical", "collateral")
CHANGED, BELOW_HALF, WHOLE, CROSSED, IDENTICAL, COLLATERAL = range(len(COUNTS))
"""Places of what is counted; all but the last count changed values."""
SUMS = ("update", "nf4", "dot")
UPDATE, NF4, DOT = range(len(SUMS))
"""Places of Σ Δ², Σ Δq² and Σ Δ·Δq, with Δ the update and Δq what NF4 makes of it, over *all* values."""

STEPS = 256
"""Bins per octave of the fine histograms."""
LOWEST, HIGHEST = -64, 16
"""Exponents between which sizes are told apart: a fine histogram covers [2^LOWEST, 2^HIGHEST)."""
BINS = (HIGHEST - LOWEST) * STEPS

_WIDTHS64 = WIDTHS_F32.astype(np.float64)


@njit(cache=True, nogil=True)
def first_not_finite(bits: Any, magnitude: Any, infinity: Any) -> int:
    """Return the position of the first NaN or infinity among stored bits, or -1."""
    worst = bits.dtype.type(0)
    for i in range(bits.size):
        worst = max(worst, bits[i] & magnitude)
    if worst < infinity:
        return -1
    for i in range(bits.size):
        if bits[i] & magnitude >= infinity:
            return i
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def fine_bin(value: float) -> int:
    """Return the fine bin of a positive number: its exponent, and the first eight bits of its mantissa."""
    if not value < np.inf:
        return BINS - 1
    mantissa, exponent = math.frexp(value)
    place = (exponent - 1 - LOWEST) * STEPS + int((mantissa - 0.5) * 2 * STEPS)
    return min(max(place, 0), BINS - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def count_plain(old: Any, new: Any, counts: Any, sums: Any, sizes: Any) -> None:
    """Count what changed between stored values, float32 `[n]` each, of a tensor that NF4 leaves as it is."""
    for i in range(old.size):
        if old[i] != new[i]:
            moved = np.float64(new[i]) - np.float64(old[i])
            counts[CHANGED] += 1
            sums[UPDATE] += moved * moved
            sizes[fine_bin(abs(moved))] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def count_quantized(
    stored: Any, quantized: Any, block_size: int, short: int, counts: Any, sums: Any, sizes: Any, ratios: Any
) -> None:
    """Count what changed and what NF4 makes of it, for a piece that begins at a block's first value.

    `stored` and `quantized` are (base, edited), float32 `[n]` each: the values as stored, and as they are cast before
    they are quantized. From position `short` on lies the tensor's short last block, where the reference divides.
    `sizes` is the fine histogram of |Δ|, `ratios` that of |Δ| in half bins of the base's code at the base's scale.
    """
    old, new = stored
    base, edited = quantized
    for first in range(0, old.size, block_size):
        last = min(first + block_size, old.size)
        before = after = np.float32(0)
        same = True
        for i in range(first, last):
            before, after = max(before, abs(base[i])), max(after, abs(edited[i]))
            same = same and old[i] == new[i] and base[i] == edited[i]
        if same:
            continue
        divides = first >= short
        for i in range(first, last):
            changed = old[i] != new[i]
            if not changed and before == after and base[i] == edited[i]:
                continue
            k, k1 = code_of(base[i], before, divides), code_of(edited[i], after, divides)
            realised = np.float64(LEVELS_F32[k1] * after) - np.float64(LEVELS_F32[k] * before)
            sums[NF4] += realised * realised
            if not changed:
                counts[COLLATERAL] += k != k1
                continue
            moved = np.float64(new[i]) - np.float64(old[i])
            half = np.float64(before) * _WIDTHS64[k] / 2
            size = abs(moved)
            counts[CHANGED] += 1
            counts[BELOW_HALF] += size < half
            counts[WHOLE] += size >= 2 * half
            counts[CROSSED] += k != k1
            counts[IDENTICAL] += realised == 0
            sums[UPDATE] += moved * moved
            sums[DOT] += moved * realised
            sizes[fine_bin(size)] += 1
            ratios[fine_bin(size / half if half > 0 else np.inf)] += 1
