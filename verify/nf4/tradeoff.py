"""The sparsity-permanence tradeoff: how many codes an update of a given size can change at most (docs/tradeoff.md).

Each function gives every parameter of a weight a *cost*. For every update that changes N codes, the N smallest costs
of the model sum to at most Σ cᵢΔᵢ², with cᵢ = 1 (the squared norm) or a given importance (half the diagonal Fisher, in
nats). So `largest_count` of the sorted costs bounds N. Theorem numbers are those of docs/tradeoff.md.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from verify.nf4.codebook import BLOCK_SIZE, THRESHOLDS_F32, WIDTHS_F32
from verify.nf4.quantize import quantize

Float64s = NDArray[np.float64]
Codes = NDArray[np.uint8]

LARGEST_MARGIN = 2.0**-5
"""Margins up to here fit twice into every cell, which `row_costs` relies on."""

_SMALLEST_SCALE = np.float32(1e-38)  # as in the reference quantizer
_THRESHOLDS = THRESHOLDS_F32.astype(np.float64)
_WIDTHS = WIDTHS_F32.astype(np.float64)
# the quantizer's two roundings move a threshold by less than 2⁻²² of itself; the rest covers float64 here
_SLACK = 2.0**-21
_DEFLATE = 1 - 2.0**-40
# scale changes |s′ − s| / s: intervals between these are bounded one by one
_DRIFTS = np.concatenate([[0.0], 2.0**-20 * 1.5 ** np.arange(33), [0.5]])
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A weight cut into blocks `[blocks, block_size]`; the short last block is padded, and `count` values are real.

    `values` float32, `scales` float32 `[blocks]`, `codes` uint8.
    """

    values: NDArray[np.float32]
    scales: NDArray[np.float32]
    codes: Codes
    count: int

    def flat(self, costs: Float64s, importance: Tensor | None) -> Float64s:
        """Drop the padding, and weigh squared distances by the importance (where infinite, they stay infinite)."""
        costs = costs.reshape(-1)[: self.count]
        if importance is None:
            return costs
        weights = importance.detach().reshape(-1).double().numpy()
        weighed: Float64s = np.full_like(costs, np.inf)
        np.multiply(costs, weights, out=weighed, where=np.isfinite(costs))
        return weighed


def crossing_costs(weight: Tensor, *, importance: Tensor | None = None, block_size: int = BLOCK_SIZE) -> Float64s:
    """Return what crossing costs each value at least while absmax holders are frozen (theorem 1), float64 `[n]`.

    `weight` is any floating tensor of n values, `importance` float of its shape, ≥ 0. The cost is exact over float32
    values as the reference quantizer rounds them, so the bound is attained; holders, which do not move, cost ∞.
    Raises `ArtefactError` MV201 for NaN or infinity.
    """
    blocks = _blocks(weight, block_size)
    cuts = _cuts(blocks)
    low = np.take_along_axis(cuts, blocks.codes.astype(np.int64), axis=1)  # crossing down ends here at the highest
    high = np.nextafter(np.take_along_axis(cuts, blocks.codes + np.int64(1), axis=1), np.float32(np.inf))
    values, scale = blocks.values.astype(np.float64), blocks.scales[:, None]
    # a point outside [−s, s] would change the scale
    down = np.where(low >= -scale, values - low, np.inf)
    up = np.where(high <= scale, high.astype(np.float64) - values, np.inf)
    costs = np.minimum(down, up) ** 2
    costs[np.abs(blocks.values) >= scale] = np.inf
    return blocks.flat(costs, importance)


def row_costs(
    weight: Tensor, *, margin: float = 2.0**-7, importance: Tensor | None = None, block_size: int = BLOCK_SIZE
) -> Float64s:
    """Return what a crossing that satisfies the five rows costs at least, holders frozen (theorem 2), float64 `[n]`.

    Raises `ValueError` for a margin outside [0, `LARGEST_MARGIN`], `ArtefactError` MV201 for NaN or infinity.
    """
    if not 0 <= margin <= LARGEST_MARGIN:
        raise ValueError(f"the margin must lie in [0, {LARGEST_MARGIN}], not {margin}")
    blocks = _blocks(weight, block_size)
    scale = blocks.scales.astype(np.float64)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 in an all-zero block, set to ∞ below
        x = blocks.values / scale
    code = blocks.codes.astype(np.int64)
    bounds = np.concatenate([[-np.inf, -np.inf], _THRESHOLDS, [np.inf, np.inf]])  # bounds[k + 1]: lower end of cell k
    half = _WIDTHS[code] / 2

    def least(nearest: Float64s, next_one: Float64s) -> Float64s:
        # a base value within the margin of a cell may not end in that cell, only in the one beyond
        return np.maximum(half, np.where(nearest >= margin, nearest, next_one) + margin)

    down = least(x - bounds[code + 1], x - bounds[code])
    up = least(bounds[code + 2] - x, bounds[code + 3] - x)
    costs = (np.minimum(down, up) * scale) ** 2 * _DEFLATE
    costs[np.abs(blocks.values) >= blocks.scales[:, None]] = np.inf
    return blocks.flat(costs, importance)


def floor_costs(weight: Tensor, *, importance: Tensor | None = None, block_size: int = BLOCK_SIZE) -> Float64s:
    """Return (half the bin width)², float64 `[n]`: what the floor alone costs, whatever the scales do (theorem 2).

    Raises `ArtefactError` MV201 for NaN or infinity.
    """
    blocks = _blocks(weight, block_size)
    # the scale as stored: of an all-zero block 0, and then no value has a margin, or the smallest one if it is short
    scale = quantize(weight, block_size=block_size).absmax.double().numpy()[:, None]
    costs = (scale * _WIDTHS[blocks.codes] / 2) ** 2
    costs[scale[:, 0] == 0] = np.inf
    return blocks.flat(costs, importance)


def free_costs(weight: Tensor, *, importance: Tensor | None = None, block_size: int = BLOCK_SIZE) -> Float64s:
    """Return costs that bound *every* update, scales free (theorem 3), float64 `[n]`, ascending within each block.

    The n-th cost of a block is no value's own: it is what the n-th crossing of the block costs at least, when all
    moves of the block, its absmax holder's included, are chosen together. Raises `ArtefactError` MV201 for NaN or
    infinity.
    """
    blocks = _blocks(weight, block_size)
    weights = np.empty(0) if importance is None else importance.detach().reshape(-1).double().numpy()
    costs = np.empty(blocks.count)
    _free_costs(
        blocks.values.reshape(-1)[: blocks.count].astype(np.float64),
        blocks.codes.reshape(-1),
        blocks.scales.astype(np.float64),
        weights,
        block_size,
        costs,
    )
    return costs


def largest_count(costs: Float64s, budgets: Float64s) -> NDArray[np.int64]:
    """Return, for each budget, how many of the ascending `costs` (float64 `[n]`) sum to at most the budget.

    Sums run in float64 over chunks; budgets are raised by more than they can round, so the count never falls short.
    """
    order = np.argsort(budgets, kind="stable")
    limits = budgets[order] * (1 + costs.size * 2.0**-52)
    counts = np.zeros(budgets.size, dtype=np.int64)
    spent = 0.0
    for start in range(0, costs.size, _CHUNK):
        sums = spent + np.cumsum(costs[start : start + _CHUNK])
        counts[order] += np.searchsorted(sums, limits, side="right")
        spent = float(sums[-1])
        if spent > limits.max(initial=0.0):
            break
    return counts


def _blocks(weight: Tensor, block_size: int) -> _Blocks:
    quantized = quantize(weight, block_size=block_size)
    count = weight.numel()
    padding = -count % block_size
    values = np.pad(weight.detach().reshape(-1).float().numpy(), (0, padding)).reshape(-1, block_size)
    codes = np.pad(quantized.codes.reshape(-1).numpy(), (0, padding), constant_values=7).reshape(-1, block_size)
    # the last block's stored absmax may be clamped; a scale is the absmax itself here
    return _Blocks(values, np.abs(values).max(axis=1, initial=0.0), codes, count)


def _cuts(blocks: _Blocks) -> NDArray[np.float32]:
    """Return the largest float32 value at or below each threshold as the quantizer computes it, `[blocks, 17]`.

    Columns 0 and 16 are −∞ and ∞: value w has code k when cuts[k] < w ≤ cuts[k + 1].
    """
    clamped = np.maximum(blocks.scales, _SMALLEST_SCALE)[:, None]
    reciprocal = np.float32(1) / clamped
    short = blocks.count % blocks.values.shape[1] != 0

    def below(points: NDArray[np.float32]) -> NDArray[np.bool_]:
        x = points * reciprocal
        if short:
            x[-1] = points[-1] / clamped[-1]
        found: NDArray[np.bool_] = x <= THRESHOLDS_F32
        return found

    points = THRESHOLDS_F32 * clamped
    while not (inside := below(points)).all():
        points = np.where(inside, points, np.nextafter(points, np.float32(-np.inf)))
    while (inside := below(further := np.nextafter(points, np.float32(np.inf)))).any():
        points = np.where(inside, further, points)
    return np.pad(points, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))


@njit(cache=True, nogil=True, error_model="numpy")
def _free_costs(
    values: Float64s, codes: Codes, scales: Float64s, weights: Float64s, block_size: int, out: Float64s
) -> None:
    """Fill `out` block by block: the slopes of the greatest convex minorant of `_least`."""
    least = np.empty(block_size + 1)
    for block in range(scales.size):
        start = block * block_size
        stop = min(start + block_size, values.size)
        s = scales[block]
        if not 2.0**-100 < s < 2.0**100:  # beyond, roundings are not relative: nothing is claimed
            out[start:stop] = 0
            continue
        w = values[start:stop]
        importance = weights[start:stop] if weights.size else np.ones(stop - start)
        _least(w, codes[start:stop], s, importance, least)
        _slopes(least[: stop - start + 1], out[start:stop])


@njit(cache=True, nogil=True, error_model="numpy")
def _least(w: Float64s, codes: Codes, s: float, importance: Float64s, least: Float64s) -> None:
    """Write a lower bound on what j crossings in one block cost into least[j] (lemmas 2 and 3)."""
    n = w.size
    least[0] = 0
    least[1:] = np.inf
    order = np.empty(n, np.int64)
    own = np.empty(n)
    sides = np.empty((4, n))
    for grows in (True, False):
        _sides(w, codes, s, 1.0 if grows else -1.0, sides)
        order[:] = np.arange(n)
        mover = importance.min() if grows else importance[np.abs(w) >= s].sum()
        for i in range(_DRIFTS.size):
            drift = s * _DRIFTS[i]
            moved = mover * drift**2
            whole = 0.0  # the move that raises the scale, in full: it may itself be one of the crossings
            if grows:
                whole = np.inf
                for j in range(n):
                    whole = min(whole, importance[j] * (s + drift - abs(w[j])) ** 2)
            if max(moved, whole) >= least[n]:
                break
            if i + 1 < _DRIFTS.size:
                _own_moves(sides, importance, s * _DRIFTS[i + 1], own)
            else:
                own[:] = 0
            _sort(own, order)
            spent = 0.0
            for j in range(n):
                before = spent
                spent += own[order[j]]
                least[j + 1] = min(least[j + 1], max(moved + spent, whole + before))


@njit(cache=True, nogil=True, error_model="numpy")
def _sides(w: Float64s, codes: Codes, s: float, sign: float, sides: Float64s) -> None:
    """Write each value's distance down and up at the base scale, and how fast a drifting scale shortens them."""
    for i in range(w.size):
        k = codes[i]
        low = _THRESHOLDS[k - 1] if k > 0 else -np.inf
        high = _THRESHOLDS[k] if k < 15 else np.inf
        sides[0, i] = max(0.0, w[i] - s * low - _SLACK * abs(low) * s) if k > 0 else np.inf
        sides[1, i] = max(0.0, s * high - w[i] - _SLACK * abs(high) * s) if k < 15 else np.inf
        sides[2, i] = max(0.0, sign * low) if k > 0 else 0.0
        sides[3, i] = max(0.0, -sign * high) if k < 15 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _own_moves(sides: Float64s, importance: Float64s, drift: float, own: Float64s) -> None:
    """Write what each value's own move costs at least when the scale has drifted by at most `drift`."""
    for i in range(own.size):
        distance = max(0.0, min(sides[0, i] - drift * sides[2, i], sides[1, i] - drift * sides[3, i]))
        own[i] = importance[i] * distance**2


@njit(cache=True, nogil=True)
def _sort(keys: Float64s, order: NDArray[np.int64]) -> None:
    """Sort `order` by key. Insertion, as one interval's order is nearly the next one's."""
    for i in range(1, order.size):
        item = order[i]
        j = i - 1
        while j >= 0 and keys[order[j]] > keys[item]:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = item


@njit(cache=True, nogil=True, error_model="numpy")
def _slopes(least: Float64s, out: Float64s) -> None:
    """Write the slopes of the greatest convex function below `least`, deflated by more than they can round."""
    corner = np.empty(least.size, np.int64)
    corner[0] = 0
    last = 0
    for j in range(1, least.size):
        while last > 0:
            a, b = corner[last - 1], corner[last]
            if (least[b] - least[a]) * (j - b) < (least[j] - least[b]) * (b - a):
                break
            last -= 1
        last += 1
        corner[last] = j
    for c in range(last):
        a, b = corner[c], corner[c + 1]
        out[a:b] = (least[b] - least[a]) / (b - a) * _DEFLATE
