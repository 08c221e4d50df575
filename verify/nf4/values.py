"""Stored values as bits: what they are as numbers, after a cast of the weight, and which are not finite. No kernels."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from verify.nf4.rows import Cast

Bits = NDArray[np.unsignedinteger]
Float32s = NDArray[np.float32]

_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}


def values_of(bits: Bits, dtype: str, cast: Cast = "none") -> Float32s:
    """Return stored values (unsigned integers, dtype BF16, F16 or F32) as float32, after a cast of the weight."""
    if dtype == "F32":
        return _cast(np.ascontiguousarray(bits).view(np.float32), cast)
    if dtype == "BF16" and cast != "fp16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return _table(dtype, cast)[bits]


@cache
def _table(dtype: str, cast: Cast) -> Float32s:
    """Return the value of every 16-bit pattern after the cast, float32 `[65536]`."""
    every = np.arange(1 << 16, dtype=np.uint16)
    plain = (every.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else every.view(np.float16)
    with np.errstate(invalid="ignore"):  # NaN patterns are refused before they get here
        return _cast(plain.astype(np.float32), cast)


def _cast(values: Float32s, cast: Cast) -> Float32s:
    if cast == "fp16":
        with np.errstate(over="ignore"):  # an infinite weight is reported as an overflow
            return values.astype(np.float16).astype(np.float32)
    if cast == "bf16":
        whole = values.view(np.uint32)
        rounded = whole + np.uint32(0x7FFF) + ((whole >> 16) & 1)  # to nearest, ties to even
        return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
    return values


def magnitude_mask(bits: Bits) -> np.unsignedinteger:
    """Return the mask of all bits but the sign: as integers, magnitudes of floats are in order."""
    return bits.dtype.type((1 << (8 * bits.dtype.itemsize - 1)) - 1)


def largest_magnitude(bits: Bits) -> int:
    """Return the largest bit pattern without its sign: as integers, magnitudes of floats are in order."""
    return int((bits & magnitude_mask(bits)).max(initial=0))


def first_not_finite(bits: Bits, dtype: str, largest: int) -> int | None:
    """Return the position of the first NaN or infinity among stored values of the given largest magnitude, or None."""
    if largest < _INFINITY[dtype]:
        return None
    return int(np.flatnonzero((bits & magnitude_mask(bits)) >= _INFINITY[dtype])[0])
