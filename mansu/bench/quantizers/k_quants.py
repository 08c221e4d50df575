"""Encoders of ggml's K-quants (Q4_K, Q5_K, Q6_K) without an importance matrix; the package `gguf` only decodes them.

Restated from the algorithm of ggml's `quantize_row_q4_K_ref`, `..._q5_K_ref` and `..._q6_K_ref` (ggml-quants.c), in the
same order of float32 operations, so that the bytes agree with a build that does not contract a·b + c into one rounding.
A super-block is 256 consecutive values of a row. Q4_K and Q5_K: eight sub-blocks of 32, each with a scale and a minimum
of 6 bits; Q6_K: sixteen sub-blocks of 16, each with a signed scale of 8 bits.
"""

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

SUPER_BLOCK = 256
"""Values of a row that one block of bytes holds."""

Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]

_STEP = np.float32(0.1)
_SIGNED_TRIES = 9
_EPSILON = np.float32(1e-15)
_ZERO = np.float32(0)
_ONE = np.float32(1)
_NEVER = np.float32(np.inf)


def encode_q4_k(rows: Floats) -> Bytes:
    """Return the Q4_K bytes of float32 `[rows, columns]`, uint8 `[rows, columns / 256 · 144]`."""
    blocks = _blocks(rows)
    head, codes = _affine(blocks, 15, np.float32(-1), 21)
    nibbles = codes.reshape(-1, 4, 2, 32)
    packed = (nibbles[:, :, 0] | (nibbles[:, :, 1] << 4)).reshape(-1, 128)
    return np.concatenate([head, packed], axis=1).reshape(len(rows), -1)


def encode_q5_k(rows: Floats) -> Bytes:
    """Return the Q5_K bytes of float32 `[rows, columns]`, uint8 `[rows, columns / 256 · 176]`."""
    blocks = _blocks(rows)
    head, codes = _affine(blocks, 31, np.float32(-0.5), 16)
    parts = codes.reshape(-1, 4, 2, 32)
    low = parts & 0x0F
    packed = (low[:, :, 0] | (low[:, :, 1] << 4)).reshape(-1, 128)
    # bit 2i of byte j is the fifth bit of value j of the i-th 64, bit 2i + 1 that of value 32 + j
    shifts = np.arange(8, dtype=np.uint8)[None, :, None]
    high = np.bitwise_or.reduce((codes.reshape(-1, 8, 32) >> 4) << shifts, axis=1).astype(np.uint8)
    return np.concatenate([head, high, packed], axis=1).reshape(len(rows), -1)


def encode_q6_k(rows: Floats) -> Bytes:
    """Return the Q6_K bytes of float32 `[rows, columns]`, uint8 `[rows, columns / 256 · 210]`."""
    blocks = _blocks(rows)
    subs = blocks.reshape(-1, 16)
    fitted, first = np.zeros(len(subs), np.float32), np.zeros(subs.shape, np.uint8)
    _fit_signed(subs, fitted, first)
    scales: Floats = fitted.reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(1, keepdims=True), 1)
    empty = np.abs(largest) < _EPSILON
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(empty, _ZERO, np.float32(-128) / largest)
        d = np.where(empty, _ZERO, _ONE / inverse).astype(np.float16)
        steps = np.minimum(127, np.rint(inverse * scales)).astype(np.int8)
        step = (d.astype(np.float32) * steps.astype(np.float32))[:, :, None]
        fresh = np.rint(blocks.reshape(-1, 16, 16) / step).clip(-32, 31) + 32
    codes = np.where(step == 0, first.reshape(-1, 16, 16), np.where(np.isfinite(fresh), fresh, 0).astype(np.uint8))
    codes = np.where(empty[:, :, None], 0, codes).astype(np.uint8)
    one, two, three, four = np.moveaxis(codes.reshape(-1, 2, 4, 32), 2, 0)
    low = np.concatenate([(one & 15) | ((three & 15) << 4), (two & 15) | ((four & 15) << 4)], axis=2)
    high = (one >> 4) | ((two >> 4) << 2) | ((three >> 4) << 4) | ((four >> 4) << 6)
    parts = [low.reshape(-1, 128), high.reshape(-1, 64), steps.view(np.uint8), d.view(np.uint8).reshape(-1, 2)]
    return np.concatenate(parts, axis=1).reshape(len(rows), -1)


def _blocks(rows: Floats) -> Floats:
    return np.ascontiguousarray(rows, dtype=np.float32).reshape(-1, SUPER_BLOCK)


def _affine(blocks: Floats, top: int, offset: np.float32, tries: int) -> tuple[Bytes, Bytes]:
    """Return d, dmin, scales and minima as bytes `[blocks, 16]`, and the codes `[blocks, 256]`, at most `top`."""
    subs = blocks.reshape(-1, 32)
    scales, mins = np.zeros(len(subs), np.float32), np.zeros(len(subs), np.float32)
    first = np.zeros(subs.shape, np.uint8)
    _fit_affine(subs, top, offset, tries, scales, mins, first)
    d, coarse = _six_bits(scales.reshape(-1, 8))
    dmin, coarse_min = _six_bits(mins.reshape(-1, 8))
    step = (d.astype(np.float32) * coarse.astype(np.float32))[:, :, None]
    low = (dmin.astype(np.float32) * coarse_min.astype(np.float32))[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        fresh = np.rint((blocks.reshape(-1, 8, 32) + low) / step).clip(0, top)
    fresh = np.where(np.isfinite(fresh), fresh, 0).astype(np.uint8)
    codes = np.where(step == 0, first.reshape(-1, 8, 32), fresh)
    packed = np.concatenate(
        [
            coarse[:, :4] | ((coarse[:, 4:] >> 4) << 6),
            coarse_min[:, :4] | ((coarse_min[:, 4:] >> 4) << 6),
            (coarse[:, 4:] & 15) | ((coarse_min[:, 4:] & 15) << 4),
        ],
        axis=1,
    )
    head = [d.view(np.uint8).reshape(-1, 2), dmin.view(np.uint8).reshape(-1, 2), packed]
    return np.concatenate(head, axis=1), codes.reshape(-1, SUPER_BLOCK)


def _six_bits(values: Floats) -> tuple[NDArray[np.float16], Bytes]:
    """Return a float16 unit `[blocks, 1]` and the values in it, rounded, at most 63, uint8 `[blocks, 8]`."""
    largest = values.max(1, keepdims=True).clip(min=0)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(63) / largest, _ZERO)
    coarse = np.minimum(63, np.rint(inverse * values).astype(np.int64).astype(np.uint8))
    return (largest / np.float32(63)).astype(np.float16), coarse.astype(np.uint8)


@numba.njit(cache=True, error_model="numpy")
def _fit_affine(subs: Any, top: int, offset: Any, tries: int, scales: Any, mins: Any, codes: Any) -> None:
    """Fit x ≈ scale · code − min to each row of `subs`, by weighted least squares for each of several trial scales.

    The trials divide the range into `top + offset` steps, and 0.1 more each time.
    The weight of a value is the root mean square of its sub-block plus its magnitude. The minimum is never negative.
    """
    count, n = subs.shape
    limit = np.float32(top)
    weights, trial = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for row in range(count):
        x = subs[row]
        total, total_x = _weigh(x, weights)
        shift, high = min(x.min(), _ZERO), x.max()
        if high == shift:
            scales[row], mins[row] = _ZERO, -shift
            continue
        inverse = limit / (high - shift)
        scale, best = _ONE / inverse, _ZERO
        for i in range(n):
            code = min(limit, max(_ZERO, np.rint(inverse * (x[i] - shift))))
            codes[row, i] = np.uint8(code)
            error = scale * code + shift - x[i]
            best += weights[i] * (error * error)
        for attempt in range(tries):
            # from the minimum of the best fit so far, as in ggml
            inverse = (offset + _STEP * np.float32(attempt) + limit) / (high - shift)
            this_scale, this_shift, now = _regress(x, weights, total, total_x, inverse, shift, limit, trial)
            if now < best:
                best, scale, shift = now, this_scale, this_shift
                for i in range(n):
                    codes[row, i] = np.uint8(trial[i])
        scales[row], mins[row] = scale, -shift


@numba.njit(cache=True, error_model="numpy")
def _weigh(x: Any, weights: Any) -> Any:
    """Fill in the weights; return their sum, and that of weight times value."""
    squares = _ZERO
    for value in x:
        squares += value * value
    mean = np.sqrt(squares / np.float32(len(x)))
    total, total_x = _ZERO, _ZERO
    for i in range(len(x)):
        weights[i] = mean + abs(x[i])
        total += weights[i]
        total_x += weights[i] * x[i]
    return total, total_x


@numba.njit(cache=True, error_model="numpy")
def _regress(x: Any, weights: Any, total: Any, total_x: Any, inverse: Any, shift: Any, limit: Any, trial: Any) -> Any:
    """Fill in the codes of one trial; return the scale and shift that fit them best, and the weighted square error."""
    sum_l, sum_l2, sum_xl = _ZERO, _ZERO, _ZERO
    for i in range(len(x)):
        code = min(limit, max(_ZERO, np.rint(inverse * (x[i] - shift))))
        trial[i] = code
        weighted = weights[i] * code
        sum_l += weighted
        sum_l2 += weighted * code
        sum_xl += weighted * x[i]
    determinant = total * sum_l2 - sum_l * sum_l
    if not determinant > _ZERO:
        return _ZERO, _ZERO, _NEVER
    this_scale = (total * sum_xl - total_x * sum_l) / determinant
    this_shift = (sum_l2 * total_x - sum_l * sum_xl) / determinant
    if this_shift > _ZERO:
        this_shift, this_scale = _ZERO, sum_xl / sum_l2
    now = _ZERO
    for i in range(len(x)):
        error = this_scale * trial[i] + this_shift - x[i]
        now += weights[i] * (error * error)
    return this_scale, this_shift, now


@numba.njit(cache=True, error_model="numpy")
def _fit_signed(subs: Any, scales: Any, codes: Any) -> None:
    """Fit x ≈ scale · (code − 32) to each row of `subs`, weighted by x², over nineteen trial scales."""
    count, n = subs.shape
    half = np.float32(32)
    for row in range(count):
        x = subs[row]
        largest, extreme = _ZERO, _ZERO
        for i in range(n):
            if abs(x[i]) > largest:
                largest, extreme = abs(x[i]), x[i]
        if largest < _EPSILON:
            scales[row] = _ZERO
            continue
        scale, best = _ZERO, _ZERO
        for attempt in range(-_SIGNED_TRIES - 1, _SIGNED_TRIES + 1):
            # the plain scale first, then the others in order
            offset = 0 if attempt == -_SIGNED_TRIES - 1 else attempt
            if attempt == 0:
                continue
            inverse = -(half + _STEP * np.float32(offset)) / extreme
            sum_xl, sum_l2 = _ZERO, _ZERO
            for i in range(n):
                code = min(half - _ONE, max(-half, np.rint(inverse * x[i])))
                weight = x[i] * x[i]
                sum_xl += weight * x[i] * code
                sum_l2 += weight * code * code
            first = attempt == -_SIGNED_TRIES - 1
            if first or (sum_l2 > _ZERO and sum_xl * sum_xl > best * sum_l2):
                for i in range(n):
                    codes[row, i] = np.uint8(half + min(half - _ONE, max(-half, np.rint(inverse * x[i]))))
                scale = sum_xl / sum_l2 if sum_l2 > _ZERO else _ZERO
                best = scale * sum_xl
        scales[row] = scale
