"""The 8-bit map of double quantization, and what it can make of a block's scale (DESIGN section 2), without torch.

Scales are stored in 8 bits, 256 to a group: (s − mean) over the group's largest |s − mean|, at the nearest value of a
fixed map. The mean is a float32 sum whose last bits depend on the backend and on its number of threads, so a scale next
to a boundary of the map may come out one step lower or higher; what holds for both neighbours holds for every backend.
"""

import numpy as np
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
_BOUNDARIES = (_MAP[1:] + _MAP[:-1]) / np.float32(2)


def deployed_bounds(absmax: Float32s, blocks: NDArray[np.int64]) -> tuple[Float32s, Float32s]:
    """Return the least and the greatest scale that any backend deploys for the given blocks, float32 `[blocks]` each.

    `absmax` holds the scales of *all* blocks of the tensor, float32.
    """
    offset = np.float32(absmax.mean(dtype=np.float64))
    groups = -(-absmax.size // GROUP)
    deviation = np.zeros(groups * GROUP, np.float32)
    np.abs(absmax - offset, out=deviation[: absmax.size])
    largest = deviation.reshape(groups, GROUP).max(axis=1)[blocks // GROUP]
    scaled = (absmax[blocks] - offset) / np.maximum(largest, np.float32(1e-38))
    code = np.searchsorted(_BOUNDARIES, scaled)
    low, high = _MAP[np.maximum(code - 1, 0)], _MAP[np.minimum(code + 1, 255)]
    return low * largest + offset, high * largest + offset
