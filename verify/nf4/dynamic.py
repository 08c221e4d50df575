"""The 8-bit map of double quantization, and what it can make of a block's scale (docs/nf4.md), without torch.

Scales are stored in 8 bits, 256 to a group: (s − mean) over the group's largest |s − mean|, at the nearest value of a
fixed map. The mean is a float32 sum whose last bits depend on the backend and on its number of threads, so a scale next
to a boundary of the map may come out one step lower or higher; what holds for both neighbours holds for every backend.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

GROUP = 256
"""Scales per group."""

Float32s = NDArray[np.float32]


def dynamic_map() -> Float32s:
    """Return the 256 values of bitsandbytes' signed dynamic 8-bit map, ascending, float32, bit for bit.

    Seven decades below 1, each with twice the values of the one before, and 0 and 1 (Dettmers et al., 2110.02861).
    """
    values = [np.zeros(1, np.float32), np.ones(1, np.float32)]
    for decade in range(7):
        edges = _linspace(2**decade + 1)
        middles = (edges[:-1] + edges[1:]) / np.float32(2)
        scaled = np.float32(10.0 ** (decade - 6)) * middles
        values += [scaled, -scaled]
    return np.sort(np.concatenate(values))


def _linspace(count: int) -> Float32s:
    """Return float32 values from 0.1 to 1 as torch spaces them: from both ends, each with one rounding."""
    step = np.float64(np.float32(0.9) / np.float32(count - 1))
    place = np.arange(count)
    upward = (np.float64(np.float32(0.1)) + step * place).astype(np.float32)
    downward = (1 - step * (count - 1 - place)).astype(np.float32)
    return np.where(place < count // 2, upward, downward)


_MAP = dynamic_map()
ROUNDING = np.float32(2.0**-21)
"""What rounding the mean and the sum can move a scale, relatively: a few units in the last place."""
_POINTS = 1 << 16
"""A grid on [−1, 1] finer than the map save next to 0, where steps are too small to matter."""


def _bounds_of_points() -> tuple[Float32s, Float32s]:
    """Return the map's values one step below and above what any number nearest to a point may be coded as."""
    points = np.arange(-1, _POINTS + 1) / (_POINTS - 1) * 2 - 1
    code = np.searchsorted((_MAP[1:] + _MAP[:-1]) / np.float32(2), points)
    return _MAP[np.maximum(code[:-2] - 1, 0)], _MAP[np.minimum(code[2:] + 1, 255)]


_LOW, _HIGH = _bounds_of_points()


def deployed_bounds(absmax: Float32s, blocks: NDArray[np.int64]) -> tuple[Float32s, Float32s]:
    """Return the least and the greatest scale that any backend deploys for the given blocks, float32 `[blocks]` each.

    `absmax` holds the scales of *all* blocks of the tensor, float32.
    """
    offset = np.float32(absmax.mean(dtype=np.float64))
    largest = np.zeros(-(-absmax.size // GROUP), np.float32)
    _largest_deviations(absmax, offset, largest)
    low, high = np.empty(blocks.size, np.float32), np.empty(blocks.size, np.float32)
    _deploy(absmax, offset, largest, blocks, low, high)
    return low, high


@njit(cache=True, nogil=True)
def _largest_deviations(absmax: Any, offset: Any, out: Any) -> None:
    for group in range(out.size):
        most = np.float32(0)
        for value in absmax[group * GROUP : group * GROUP + GROUP]:
            most = max(most, abs(value - offset))
        out[group] = most


@njit(cache=True, nogil=True, error_model="numpy")
def _deploy(absmax: Any, offset: Any, largest: Any, blocks: Any, low: Any, high: Any) -> None:
    for i in range(blocks.size):
        group = largest[blocks[i] // GROUP]
        scaled = (absmax[blocks[i]] - offset) / group if group > 0 else np.float32(0)
        if not -1 <= scaled <= 1:  # rounding, or no number at all, which must not become an index
            scaled = np.float32(1) if scaled > 1 else np.float32(-1)
        point = int((scaled + 1) * 0.5 * (_POINTS - 1) + 0.5)
        slack = abs(offset) * ROUNDING
        low[i] = _LOW[point] * group + offset - slack
        high[i] = _HIGH[point] * group + offset + slack
