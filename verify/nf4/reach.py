"""How many parameters an update of a given size can move by half a bin or more, from block scales alone.

A parameter that satisfies the five rows moves by at least s · W / 2, with s the base's block absmax and W the width of
the narrowest cell, whatever the update does to the scales (docs/tradeoff.md, theorem 2c). So a histogram of scales
bounds every update. It holds one count a bit pattern: exact for 16-bit weights, and for float32, whose scales are
rounded down to 16 bits, at most 1 % above. No torch, no kernels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verify.nf4.codebook import WIDTHS_F32
from verify.nf4.values import Bits, values_of

NARROWEST = float(WIDTHS_F32.min())
"""The narrowest cell, in units of the block's absmax: that of code 8."""
PATTERNS = 1 << 15
"""Magnitudes that 16 bits tell apart."""

_SMALLEST = 2.0**-121  # as in `verify.nf4.survival`: below it no value has a margin
_DEFLATE = 1 - 2.0**-30
"""More than sums of `PATTERNS` float64 products can round."""

Counts = NDArray[np.int64]


def empty_counts() -> Counts:
    """Return counts of values by the bits of their block's absmax, int64 `[PATTERNS]`, all 0."""
    return np.zeros(PATTERNS, np.int64)


def count_values(maxima: Bits, values: int, block_size: int, out: Counts) -> None:
    """Add the `values` of consecutive blocks to `out`; `maxima` holds the bits of each block's absmax.

    All blocks have `block_size` values, and the last what is left.
    """
    if not maxima.size:
        return
    patterns = maxima >> 16 if maxima.itemsize == 4 else maxima
    found = np.bincount(patterns, minlength=PATTERNS) * block_size
    found[patterns[-1]] -= maxima.size * block_size - values
    out += found


@dataclass(frozen=True, slots=True)
class Reach:
    """What updates can reach: `half` bins of the narrowest cell, float64 ascending, and how many values have each.

    Values whose block's scale is too small for a margin are in none; `total` counts them too.
    """

    half: NDArray[np.float64]
    counts: Counts
    total: int

    @classmethod
    def of(cls, counts: Counts, dtype: str) -> "Reach":
        """Read the counts of a model stored as `dtype` (BF16, F16 or F32)."""
        patterns = np.flatnonzero(counts).astype(np.uint16)
        scales = values_of(patterns, "BF16" if dtype == "F32" else dtype).astype(np.float64)
        used = (scales >= _SMALLEST) & np.isfinite(scales)
        return cls(scales[used] * NARROWEST / 2, counts[patterns[used]], int(counts.sum()))

    def at_most(self, norms: NDArray[np.float64]) -> Counts:
        """Return how many values an update of each ℓ2 norm can move by half a bin at most."""
        costs = self.half**2 * _DEFLATE
        spent = np.concatenate([[0.0], np.cumsum(costs * self.counts)])
        reached = np.concatenate([[0], np.cumsum(self.counts)])
        budgets = np.square(norms)
        place = np.searchsorted(spent, budgets, side="right") - 1
        left = np.minimum(place, costs.size - 1) if costs.size else place
        within = (budgets - spent[place]) / costs[left] if costs.size else np.zeros(budgets.size)
        # where all are reached there is nothing left to reach
        more = np.where(place < costs.size, np.minimum(within, np.diff(reached, append=reached[-1])[place]), 0)
        found: Counts = reached[place] + more.astype(np.int64)
        return found

    def whole(self) -> float:
        """Return the ℓ2 norm from which the bound is no bound any more."""
        return float(np.sqrt(np.sum(self.half**2 * self.counts)))

    def within(self, move: float) -> int:
        """Return how many values a move of this size can carry over half a bin at most."""
        return int(self.counts[self.half * _DEFLATE <= move].sum())

    def middle(self) -> float:
        """Return the median half bin of the narrowest cell over all values counted; 0 without any."""
        if not self.counts.size:
            return 0.0
        return float(self.half[np.searchsorted(np.cumsum(self.counts), (self.counts.sum() + 1) // 2)])
