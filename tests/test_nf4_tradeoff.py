"""The tradeoff's bounds: attained where they claim to be exact, and never beaten by attacks where they do not."""

from fractions import Fraction
from itertools import combinations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from verify.errors import ArtefactError
from verify.nf4 import THRESHOLDS, WIDTHS, quantize, survival
from verify.nf4 import tradeoff as t

BLOCK = 64
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FUNCTIONS = [t.crossing_costs, t.row_costs, t.floor_costs, t.free_costs]


def weights(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.05).to(dtype)


def spent(base: Tensor, edited: Tensor, importance: Tensor | None = None) -> float:
    """The cost of an update, rounded up from exact rationals."""
    moves = (edited.double() - base.double()).reshape(-1).tolist()
    weigh = [1.0] * len(moves) if importance is None else importance.double().reshape(-1).tolist()
    total = sum((Fraction(c) * Fraction(m) ** 2 for c, m in zip(weigh, moves, strict=True)), Fraction())
    return float(np.nextafter(float(total), np.inf)) if total else 0.0


def changed(base: Tensor, edited: Tensor, block_size: int = BLOCK) -> int:
    before, after = (quantize(w, block_size=block_size).codes for w in (base, edited))
    return int((before != after).sum())


def largest_of_block(weight: Tensor, block_size: int) -> Tensor:
    """Return, for each value, the largest magnitude of its block."""
    flat = weight.float().reshape(-1).abs()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % block_size)).reshape(-1, block_size)
    largest = blocks.max(1).values.repeat_interleave(block_size)
    return largest[: flat.numel()].reshape(weight.shape)


def count(costs: np.ndarray, *budgets: float) -> list[int]:
    return t.largest_count(np.sort(costs), np.array(budgets)).tolist()


def cheapest_crossings(base: Tensor, number: int, block_size: int = BLOCK) -> Tensor:
    """Move the `number` cheapest values just over their thresholds, found by bisection on the real quantizer."""
    flat = base.float().reshape(-1)
    code = quantize(flat, block_size=block_size).codes.int()
    scale = quantize(flat, block_size=block_size).scales()
    best, cost = flat.clone(), torch.full_like(flat, torch.inf, dtype=torch.float64)
    frozen = flat.abs() >= scale
    for side in (-1.0, 1.0):
        # invariant: `inside` keeps its code and `outside` does not, wherever the far end changes it at all
        inside, outside = flat.clone(), torch.where(frozen, flat, side * scale)
        movable = quantize(outside, block_size=block_size).codes.int() != code
        while True:
            middle = ((inside.double() + outside.double()) / 2).float()
            if bool(((middle == inside) | (middle == outside)).all()):
                break
            crosses = quantize(middle, block_size=block_size).codes.int() != code
            outside, inside = torch.where(crosses, middle, outside), torch.where(crosses, inside, middle)
        move = torch.where(movable, (outside.double() - flat.double()) ** 2, torch.inf)
        best, cost = torch.where(move < cost, outside, best), torch.minimum(move, cost)
    chosen = cost.argsort()[:number]
    assert bool(cost[chosen].isfinite().all())
    edited = flat.clone()
    edited[chosen] = best[chosen]
    return edited.reshape(base.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 96), (3, 50)])
@pytest.mark.parametrize("number", [1, 2, 17, 100])
def test_the_fixed_scale_bound_is_attained_by_the_greedy_attack(
    dtype: torch.dtype, shape: tuple[int, int], number: int
) -> None:
    base = weights(number, *shape, dtype=dtype)
    edited = cheapest_crossings(base, number)
    assert torch.equal(quantize(edited).absmax, quantize(base).absmax)
    budget = spent(base, edited)
    assert changed(base.float(), edited) == number
    costs = t.crossing_costs(base)
    assert count(costs, budget) == [number]
    assert count(costs, budget * (1 - 1e-9)) == [number - 1]


@given(
    costs=npst.arrays(np.float64, st.integers(1, 7), elements=st.integers(0, 6).map(float)),
    budget=st.integers(0, 30).map(float),
)
@settings(max_examples=200, deadline=None)
def test_no_subset_beats_the_sort_ties_included(costs: np.ndarray, budget: float) -> None:
    everything = range(costs.size)
    best = max(n for n in range(costs.size + 1) for s in combinations(everything, n) if costs[list(s)].sum() <= budget)
    assert count(costs, budget) == [best]


def test_counts_run_over_chunks_and_budgets_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t, "_CHUNK", 3)
    costs = np.array([0, 0, 1, 1, 2, 2, 3, 4, np.inf, np.inf])
    assert count(costs, 5.9, 0.0, 1e9, 6.0, 9.0) == [5, 2, 8, 6, 7]
    assert count(np.array([]), 1.0) == [0]


def test_equal_distances_give_the_simple_form() -> None:
    # N ≤ (β/w)² of the mission: every distance is w
    width, budget = 0.25, 3.0
    assert count(np.full(1000, width**2), budget**2) == [int((budget / width) ** 2)]


def test_a_value_on_a_threshold_crosses_up_with_the_next_float() -> None:
    base = torch.cat([torch.ones(1), THRESHOLDS, torch.zeros(48)])
    costs = t.crossing_costs(base)[1:16]
    following = torch.nextafter(THRESHOLDS, torch.tensor(torch.inf)).double()
    assert np.array_equal(costs, ((following - THRESHOLDS.double()) ** 2).numpy())
    assert bool((t.free_costs(base) >= 0).all())


def test_a_value_just_above_a_threshold_crosses_down_onto_it() -> None:
    above = torch.nextafter(THRESHOLDS, torch.tensor(torch.inf))
    base = torch.cat([torch.ones(1), above, torch.zeros(48)])
    assert np.array_equal(t.crossing_costs(base)[1:16], ((above.double() - THRESHOLDS.double()) ** 2).numpy())


def test_holders_and_all_zero_blocks() -> None:
    base = torch.cat([torch.zeros(64), torch.tensor([-2.0, 2.0]), torch.zeros(38)])
    fixed, rows, floor, free = (f(base) for f in FUNCTIONS)
    assert np.isinf(fixed[:66]).all()
    assert np.isfinite(fixed[66:]).all()
    assert np.isinf(rows[:66]).all()
    assert np.isinf(floor[:64]).all()
    # any move at all makes an all-zero block's value its holder: the code changes from 7 to 15
    edited = base.clone()
    edited[:64] = torch.tensor(1e-30)
    assert changed(base, edited) == 64
    assert (free[:64] == 0).all()
    assert (free[64:] > 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_dtypes_and_refusals(function: object) -> None:
    assert callable(function)
    for dtype in DTYPES:
        costs = function(weights(1, 5, 30, dtype=dtype))
        assert costs.shape == (150,)
        assert costs.dtype == np.float64
    assert function(torch.zeros(0, 4)).size == 0
    with pytest.raises(ArtefactError, match="not a finite") as caught:
        function(torch.tensor([1.0, torch.nan]))
    assert caught.value.id == "MV201"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_importance_weighs_squared_moves(function: object) -> None:
    assert callable(function)
    base = weights(2, 4, 64)
    plain = function(base)
    assert np.allclose(function(base, importance=torch.full_like(base, 3.0)), 3 * plain, rtol=1e-9)
    free_of_cost = function(base, importance=torch.zeros_like(base))
    assert (free_of_cost[np.isfinite(plain)] == 0).all()
    assert np.isinf(free_of_cost[np.isinf(plain)]).all()


def test_margins_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        t.row_costs(torch.ones(4), margin=0.1)


def test_the_codebook_is_as_theorem_2_needs_it() -> None:
    width = WIDTHS.double()
    room = width - t.LARGEST_MARGIN
    room[[0, 15]] = width[[0, 15]]  # the end cells have no far threshold
    assert float(width.min()) >= 2 * t.LARGEST_MARGIN
    # half a bin from anywhere in a cell stays within the neighbouring cell
    assert bool((width[:-1] / 2 <= room[1:]).all())
    assert bool((width[1:] / 2 <= room[:-1]).all())


@pytest.mark.parametrize("margin", [2.0**-7, 2.0**-5, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_five_row_bound_is_attained_but_for_rounding(margin: float, seed: int) -> None:
    base = weights(seed, 4, 64)
    costs = t.row_costs(base, margin=margin)
    number = 120
    chosen = torch.from_numpy(costs.argsort(kind="stable")[:number].copy())
    length = torch.from_numpy(np.sqrt(costs))[chosen] * (1 + 1e-5)
    edited = base.clone().reshape(-1)
    for index, step in zip(chosen.tolist(), length.tolist(), strict=True):
        for side in (-1, 1):
            tried = base.clone().reshape(-1)
            tried[index] += side * step
            rows = survival(base, tried.reshape(base.shape), torch.tensor([index]), margin=margin).rows
            if all(bool(row.all()) for row in rows.values()):
                edited[index] = tried[index]
    assert rescued(base, edited.reshape(base.shape), BLOCK, margin=margin) == number
    budget = spent(base, edited.reshape(base.shape))
    assert number <= count(costs, budget)[0] <= number + 1


def rescued(base: Tensor, edited: Tensor, block_size: int, margin: float = 2.0**-7) -> int:
    """Count the changed values that satisfy all five rows."""
    moved = (base != edited).reshape(-1).nonzero().reshape(-1)
    rows = survival(base, edited, moved, block_size=block_size, margin=margin).rows if moved.numel() else {}
    return int(torch.stack(list(rows.values())).all(0).sum()) if rows else 0


def assert_no_bound_is_beaten(base: Tensor, edited: Tensor, block_size: int, importance: Tensor | None = None) -> None:
    budget = spent(base, edited, importance)
    number = changed(base, edited, block_size)
    options = {"importance": importance, "block_size": block_size}
    assert number <= count(t.free_costs(base, **options), budget)[0]
    five = rescued(base, edited, block_size)
    assert five <= count(t.floor_costs(base, **options), budget)[0]
    # the largest magnitudes themselves: the stored absmax of a short block never falls below 1e-38
    before, after = (largest_of_block(w, block_size) for w in (base, edited))
    frozen = bool((base == edited)[base.abs() >= before].all())
    if frozen and torch.equal(before, after):
        assert number <= count(t.crossing_costs(base, **options), budget)[0]
        assert five <= count(t.row_costs(base, **options), budget)[0]


def test_a_short_block_of_zeros_is_held_by_each_of_them() -> None:
    base, edited = torch.tensor([0.0]), torch.tensor([1.1755e-39])  # absmax stored as 1e-38 both times
    assert changed(base, edited, 4) == 1
    assert count(t.crossing_costs(base, block_size=4), 1.0) == [0]
    assert_no_bound_is_beaten(base, edited, 4)


@given(
    base=npst.arrays(np.float32, st.integers(1, 14), elements=st.floats(-1, 1, width=32)),
    data=st.data(),
    size=st.sampled_from([1e-6, 1e-3, 0.02, 0.1, 0.3, 1.0, 3.0]),
    block_size=st.sampled_from([4, 6]),
)
@settings(max_examples=250, deadline=None)
def test_random_updates_beat_no_bound(base: np.ndarray, data: st.DataObject, size: float, block_size: int) -> None:
    move = data.draw(npst.arrays(np.float32, base.shape, elements=st.floats(-1, 1, width=32)))
    keep = data.draw(npst.arrays(np.bool_, base.shape))
    held = data.draw(npst.arrays(np.float32, base.shape, elements=st.floats(0, 2, width=32)))
    edited = torch.from_numpy(np.where(keep, base, base + np.float32(size) * move))
    assert_no_bound_is_beaten(torch.from_numpy(base), edited, block_size)
    assert_no_bound_is_beaten(torch.from_numpy(base), edited, block_size, torch.from_numpy(held))


def rescaled(base: Tensor, importance: Tensor, mover: int, scale: float) -> Tensor:
    """The best updates of one block to a new scale, `[updates, n]`, for tests of the bound.

    The mover goes to the scale, larger values shrink to it, and then, cheapest first, each other value is moved just
    over a threshold of the new scale; one row after each such move.
    """
    start = base.clamp(-scale, scale)
    start[mover] = torch.sign(base[mover]) * scale if base[mover] != 0 else scale
    code = quantize(base, block_size=base.numel()).codes.int()
    now = quantize(start, block_size=base.numel()).codes.int()
    infinity = torch.tensor([torch.inf])
    bounds = torch.cat([-infinity, THRESHOLDS * scale, infinity])
    low, high = bounds[code] * (1 - 1e-6 * bounds[code].sign()), bounds[code + 1] * (1 + 1e-6 * bounds[code + 1].sign())
    target = torch.where(start - low < high - start, low, high)
    cost = importance * (target - base) ** 2
    cost[(now != code) | (torch.arange(base.numel()) == mover) | (target.abs() > scale)] = torch.inf
    rows = [start]
    for index in cost.argsort()[: int(cost.isfinite().sum())].tolist():
        rows.append(rows[-1].clone())
        rows[-1][index] = target[index]
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
def test_moving_the_holder_beats_no_bound_and_comes_near_it(seed: int, *, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = 12
    base = torch.randn(size, generator=generator) * 0.05
    importance = torch.rand(size, generator=generator) ** 3 if weighted else torch.ones(size)
    holder, most = int(base.abs().argmax()), float(base.abs().max())
    drifts = np.geomspace(1e-5, 0.6, 60)
    attacks = [
        rescaled(base, importance, mover, float(np.float32(most * (1 + drift))))
        for drift in [*(-drifts).tolist(), 0.0, *drifts.tolist()]
        for mover in (range(size) if drift > 0 else [holder])
    ]
    edited = torch.cat(attacks)
    codes = quantize(edited, block_size=size).codes
    numbers = (codes != quantize(base, block_size=size).codes).sum(1)
    budgets = (importance.double() * (edited.double() - base.double()) ** 2).sum(1) * (1 + 1e-12)
    costs = t.free_costs(base, importance=importance, block_size=size)
    assert len(numbers.unique()) > size - 2
    assert bool((numbers.numpy() <= t.largest_count(np.sort(costs), budgets.numpy())).all())
    if not weighted:
        # and the bound is not idle: for up to half the block, the attack pays less than twice the bound
        cheapest = [float(budgets[numbers >= number].min()) for number in range(1, size // 2 + 1)]
        assert (np.cumsum(costs)[: size // 2] * 2 >= cheapest).all()


def test_the_free_bound_is_never_below_the_fixed_one_and_near_it() -> None:
    base = weights(9, 64, 256)
    fixed, free = np.sort(t.crossing_costs(base)), np.sort(t.free_costs(base))
    budgets = float(fixed[np.isfinite(fixed)].sum()) * np.array([1e-6, 1e-4, 1e-2, 0.1])
    few, more = t.largest_count(fixed, budgets), t.largest_count(free, budgets)
    assert (few <= more).all()
    assert (more <= 1.4 * few).all()


def test_one_holder_changes_many_codes_where_the_fixed_scale_bound_allows_one() -> None:
    # why theorem 3 is needed: values just inside their cells, and a holder that lowers the whole scale
    inner = torch.nextafter(THRESHOLDS[8:14], torch.tensor(0.0))
    base = torch.cat([torch.ones(1), inner.repeat(10), torch.zeros(3)])
    edited = base.clone()
    edited[0] = 1 - 1e-6
    assert changed(base, edited) == 60
    budget = spent(base, edited)
    assert count(t.free_costs(base), budget)[0] >= 60
    shifted = base.clone()
    shifted[1:61] = base[1:61] - 1e-5  # a hundred times less near: now a thousandth of the scale is a dear way
    assert count(t.free_costs(shifted), 1e-12)[0] < 60
