"""The NF4 quantizer's inner loops on raw bits: NumPy in and out, without torch (docs/nf4.md has the arguments).

Two ways to the same codes. The *ladder* is the definition: multiply by the reciprocal of the scale in float32, count
the thresholds below. The *table* serves bfloat16 in whole 64s: with x = fl(w · fl(1/s)) and s, w normal numbers, x
depends only on the mantissa of s and on how many representable values lie between |w| and s, so the ladder itself is
run once on every such pair (128 × 1,024 × 2 signs) and its answers looked up.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np
from numba import config
from numpy.typing import NDArray

from verify.nf4.codebook import THRESHOLDS_F32
from verify.nf4.lanes import HAS_BYTE_TABLES, REACH, quantize_range, quantize_range_by_table

DType = Literal["bfloat16", "float16", "float32"]

_BITS: dict[str, Any] = {"bfloat16": np.uint16, "float16": np.int16, "float32": np.uint32}
"""The integer type in which the kernels take each floating type."""
_INFINITY = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
_TASK = 1 << 22
"""Values a thread takes at a time: small enough to balance threads, far above the cost of a call."""


@cache
def code_tables() -> NDArray[np.uint8]:
    """Return the tables of `table_codes`, uint8 `[128 · 3 · 64]`: one set for each mantissa of a bfloat16 scale.

    Found by running the ladder at scales in [1, 2) on every value within reach.
    """
    scales = np.arange(127 << 7, 128 << 7)
    magnitudes = scales[:, None] + np.arange(1024) - REACH
    reciprocals = np.float32(1) / _bfloat16(scales)
    x = _bfloat16(magnitudes) * reciprocals[:, None]
    codes = np.searchsorted(THRESHOLDS_F32, np.stack([x, -x], 1)).reshape(128, 64, 32).astype(np.uint8)
    low, high = codes[..., 0], codes[..., -1]
    cut = (codes == low[..., None]).sum(-1) - 1
    # a bucket holds at most one threshold, or two codes would not describe it
    assert ((codes == low[..., None]) | (codes == high[..., None])).all()
    tables = np.stack([low, high, np.where(low == high, 255, 8 * cut).astype(np.uint8)], axis=1).reshape(-1)
    tables.flags.writeable = False
    return tables


def _bfloat16(magnitudes: NDArray[Any]) -> NDArray[np.float32]:
    return (magnitudes.astype(np.uint32) << np.uint32(16)).view(np.float32)


def empty_codes(size: int) -> NDArray[np.uint8]:
    """Return an uninitialized uint8 array that starts on a 64-byte boundary, as the table path needs."""
    raw = np.empty(size + 63, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size]


def quantize_blocks(
    bits: NDArray[Any], dtype: DType, block_size: int, *, codes: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Quantize a flat weight, given as the 16- or 32-bit integers that hold its `dtype`, in blocks of `block_size`.

    Returns the codes, uint8 `[n]` (`codes` itself where given), the scales, float32 `[ceil(n / block_size)]`, and the
    flat index of the first value that is NaN or infinite, or -1; with such a value the two arrays mean nothing.
    Runs on `NUMBA_NUM_THREADS` threads (by default all cores) from 4 M values on.
    """
    bits = np.ascontiguousarray(bits).reshape(-1).view(_BITS[dtype])
    bits.flags.writeable = False  # a type of its own to numba: one compilation serves all
    codes = empty_codes(bits.size) if codes is None else codes
    absmax = np.empty(-(-bits.size // block_size), np.float32)
    by_table = HAS_BYTE_TABLES and dtype == "bfloat16" and block_size % 64 == 0 and codes.ctypes.data % 64 == 0
    step = max(1, _TASK // block_size)

    def run(first: int) -> int:
        last = min(first + step, absmax.size)
        common = (block_size, _INFINITY[dtype])
        if not by_table:
            return int(quantize_range(bits, codes, absmax, first, last, *common))
        whole = min(last, bits.size // block_size)
        bad = int(quantize_range_by_table(bits, codes, absmax, first, whole, *common, code_tables()))
        if bad >= 0 or whole >= last:
            return bad
        return int(quantize_range(bits, codes, absmax, whole, last, *common))

    starts = range(0, absmax.size, step)
    if config.NUMBA_NUM_THREADS == 1 or len(starts) <= 1:
        found = [run(first) for first in starts]
    else:
        with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
            found = list(pool.map(run, starts))
    return codes, absmax, next((index for index in found if index >= 0), -1)
