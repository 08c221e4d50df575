"""What pieces of tensors add up to: counts, sums, and medians read from fine histograms."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verify.audit.kernels import BINS, COUNTS, HIGHEST, LOWEST, STEPS, SUMS

MEDIAN_ERROR = 1 / (2 * STEPS)
"""Bound on the relative error of a median: bins are at most 1/STEPS wide, and their middles are returned."""

SHOWN_FROM, SHOWN_TO = -12, 4
"""Powers of two between which the histogram of a report has a bin an octave; below and above lie one bin each."""
EDGES = tuple(2.0**power for power in range(SHOWN_FROM, SHOWN_TO + 1))


def _zeros(size: int) -> NDArray[np.int64]:
    return np.zeros(size, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts (in the order of `COUNTS`), sums (`SUMS`, float64) and the fine histograms of a tensor, or of several.

    `sizes` counts |Δ| in units of the weights, `ratios` |Δ| in half bins (of quantized tensors only).
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(COUNTS)))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(SUMS)))
    sizes: NDArray[np.int64] = field(default_factory=lambda: _zeros(BINS))
    ratios: NDArray[np.int64] = field(default_factory=lambda: _zeros(BINS))

    def add(self, other: "Tally") -> None:
        """Add another tally to this one, in place."""
        for name in self.__slots__:
            mine = getattr(self, name)
            mine += getattr(other, name)

    def count(self, name: str) -> int:
        """Return one of the counts."""
        return int(self.counts[COUNTS.index(name)])

    def total(self, name: str) -> float:
        """Return one of the sums."""
        return float(self.sums[SUMS.index(name)])

    def histogram(self) -> tuple[int, ...]:
        """Return the counts of |Δ| in half bins: below `EDGES[0]`, between its neighbours, from `EDGES[-1]` on."""
        octaves = self.ratios.reshape(-1, STEPS).sum(1)
        low, high = SHOWN_FROM - LOWEST, SHOWN_TO - LOWEST
        return (int(octaves[:low].sum()), *octaves[low:high].tolist(), int(octaves[high:].sum()))


def median(fine: NDArray[np.int64]) -> float | None:
    """Return the lower median of what a fine histogram counts, within `MEDIAN_ERROR` of itself; None where empty.

    What lies outside [2^LOWEST, 2^HIGHEST) counts as the end bin next to it.
    """
    total = int(fine.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(fine), (total + 1) // 2))
    octave, step = divmod(place, STEPS)
    assert LOWEST + octave < HIGHEST
    return math.ldexp(1 + (step + 0.5) / STEPS, LOWEST + octave)
