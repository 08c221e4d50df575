"""The largest magnitude of each unit or block of stored values, as bits: what a block's absmax is, before any cast."""

from typing import Any

import numpy as np
from numba import njit

from verify.nf4.values import Bits, magnitude_mask


def block_maxima(bits: Bits, block_size: int) -> Bits:
    """Return the bits of each block's absmax; the last block may be short."""
    found = np.zeros(-(-bits.size // block_size), bits.dtype)
    maxima(bits, magnitude_mask(bits), block_size, found)
    return found


@njit(cache=True, nogil=True)
def maxima(bits: Any, magnitude: Any, unit: int, out: Any) -> None:
    """Write the largest magnitude of each unit of values; the last unit may be short."""
    whole = bits.size // unit
    for u in range(whole):
        part = bits[u * unit : u * unit + unit]
        most = part[0] & magnitude
        for i in range(unit):
            most = max(most, part[i] & magnitude)
        out[u] = most
    if whole < out.size:
        most = bits[whole * unit] & magnitude
        for i in range(whole * unit, bits.size):
            most = max(most, bits[i] & magnitude)
        out[whole] = most


@njit(cache=True, nogil=True)
def maxima_at(bits: Any, magnitude: Any, unit: int, at: Any, out: Any) -> None:
    """As `maxima`, for the units named by `at` only."""
    for u in at:
        part = bits[u * unit : u * unit + unit]
        most = part[0] & magnitude
        for i in range(part.size):
            most = max(most, part[i] & magnitude)
        out[u] = most
