"""Moves between valid values, swaps, polish, the smallest change: all values stay valid, and nothing gets worse."""

import pytest
import tiny_masked as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mansu.solve.finish.moves import Kept, Proposals, Slope, best_moves, keep_what_helps, returns
from mansu.solve.finish.polish import polish
from mansu.solve.finish.shrink import least_useful, returned, shrink
from mansu.solve.finish.swaps import swap

seeds = st.integers(0, 2**16)


@settings(max_examples=8, deadline=None)
@given(seed=seeds, rounds=st.integers(1, 3), trials=st.integers(1, 5))
def test_a_polish_never_makes_it_worse_and_stays_on_valid_values(seed: int, rounds: int, trials: int) -> None:
    found = tiny.tiny(seed)
    start = found.measured()
    before, kept = polish(found.masked, found.look, found.measured, rounds=rounds, trials=trials, budget=1.0)
    found.require_valid()
    assert before == start
    assert found.measured() == kept.value <= start
    assert (kept.kept > 0) == (kept.value < start)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, trials=st.integers(1, 5))
def test_swaps_keep_the_number_of_changed_parameters(seed: int, trials: int) -> None:
    found = tiny.tiny(seed)
    start, count, moved = found.measured(), found.masked.changed, found.masked.moved
    before, kept = swap(found.masked, found.look, found.measured, rounds=2, trials=trials, budget=1.0)
    found.require_valid()
    assert found.masked.changed == count
    assert found.measured() == kept.value <= start == before
    assert int((found.masked.moved & ~moved).sum()) <= kept.kept


def test_both_help_a_least_squares_layer() -> None:
    found = tiny.tiny(1)
    _, swapped = swap(found.masked, found.look, found.measured, rounds=2, trials=6, budget=1.0)
    before, polished = polish(found.masked, found.look, found.measured, rounds=3, trials=6, budget=1.0)
    assert swapped.kept > 0
    assert polished.kept > 0
    assert polished.value < before


def test_the_predicted_change_is_exact_where_the_curvature_is() -> None:
    found = tiny.tiny(4)
    masked = found.masked
    # each input is seen by one column alone: the objective's Hessian is diagonal
    found.inputs = torch.eye(128)
    found.wanted = torch.randn(128, 24, generator=torch.Generator().manual_seed(1)) * 0.05
    at = Slope(found.gradient(), torch.full_like(masked.master, 1 / found.wanted.numel()))
    for moves in (best_moves(masked, at, 2), returns(masked, at, 2)):
        values, start = masked.master, found.measured()
        for place in moves.change.isfinite().nonzero().reshape(-1)[:5].tolist():
            after = values.clone()
            after[place] = moves.targets[place]
            masked.set(after)
            assert found.measured() - start == pytest.approx(float(moves.change[place]), rel=0.02, abs=1e-7)
        masked.set(values)


def test_a_batch_without_room_in_the_fisher_budget_is_not_kept() -> None:
    found = tiny.tiny(1)
    masked = found.masked
    masked.set(masked.lattice.base)
    _, kept = polish(masked, found.look, found.measured, rounds=1, trials=3, budget=1e-12)
    assert kept.kept == masked.changed == 0


def test_a_failure_stiffens_the_prediction_to_what_was_measured() -> None:
    found = tiny.tiny(1)
    masked = found.masked
    at = Slope(found.gradient(), torch.full_like(masked.master, 1e-9))  # far too flat: the farthest levels look best
    asked = []

    def propose(at: Slope, stiffness: float) -> Proposals:
        moves = best_moves(masked, at, stiffness)
        asked.append(stiffness)
        return Proposals(moves.change.argsort()[: int((moves.change < 0).sum()), None], moves.targets)

    start = Kept(found.measured(), 0, 200)
    kept = keep_what_helps(masked, propose, at, found.measured, start, trials=5, budget=1.0)
    assert asked[0] == 1
    assert asked[1] > 1e3
    assert kept.kept > 0
    assert kept.value < start.value


@settings(max_examples=15, deadline=None)
@given(seed=seeds, trials=st.integers(0, 8), share=st.floats(0, 1))
def test_the_smallest_change_is_the_smallest_that_did(seed: int, trials: int, share: float) -> None:
    found = tiny.tiny(seed)
    masked = found.masked
    order = least_useful(masked, masked.fisher)
    before, asked = masked.changed, []
    least = int(share * before)

    def enough() -> bool:
        asked.append(masked.changed)
        return masked.changed >= least

    count = shrink(masked, order, enough, trials=trials)
    found.require_valid()
    assert len(asked) <= trials
    assert masked.changed == before - count == min([n for n in asked if n >= least], default=before)


def test_the_least_useful_moves_return_first() -> None:
    found = tiny.tiny(8)
    masked = found.masked
    order = least_useful(masked, masked.fisher)
    assert sorted(order.tolist()) == masked.moved.nonzero().reshape(-1).tolist()
    cost = masked.fisher * (masked.master - masked.lattice.base).square()
    assert bool((cost[order].diff() >= 0).all())
    values = returned(masked, masked.master, order[:10])
    assert int((values != masked.lattice.base).sum()) == masked.changed - 10
    assert masked.cost(values) == pytest.approx(
        masked.cost(masked.master) - float(cost[order[:10]].sum()) / 2, rel=1e-3
    )
