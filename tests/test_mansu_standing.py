"""Where answers stand among their alternatives; a shift of all of them is seen where a divergence sees none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mansu.solve.objective import divergence
from mansu.solve.standing import common_shift, leads, log_odds

POOLS = ((0, 1, 2), (0, 1, 2), (3, 4), (3, 4))
ANSWERS = torch.tensor([0, 2, 3, 4])


def shifted(by: list[float]) -> torch.Tensor:
    return common_shift(torch.tensor(by), POOLS)


def test_log_odds_and_leads_of_small_numbers() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0, 9.0, 9.0]])
    answer, pools = torch.tensor([0]), [(0, 1, 2)]
    assert float(leads(logits, answer, pools)) == pytest.approx(1.5)
    p = logits[0, :3].softmax(0)
    assert float(log_odds(logits, answer, pools)) == pytest.approx(float(torch.log(p[0] / (1 - p[0]))))
    # log-probabilities stand as their logits do
    assert float(log_odds(logits.log_softmax(-1), answer, pools)) == pytest.approx(
        float(log_odds(logits, answer, pools))
    )


def test_an_answer_without_alternatives_does_not_move() -> None:
    assert float(log_odds(torch.tensor([[2.0, 5.0]]), torch.tensor([0]), [(0,)])) == 0.0


@given(st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4))
def test_what_moves_answers_of_one_pool_apart_cancels_out(by: list[float]) -> None:
    first, _, third, _ = by
    assert float(shifted([first, -first, third, -third])) == pytest.approx(0.0, abs=1e-6)


@given(st.floats(0.0625, 3, width=32), st.sampled_from((-1.0, 1.0)))
def test_all_by_the_same_count_by_how_far(by: float, sign: float) -> None:
    assert float(shifted([sign * by] * 4)) == pytest.approx(by - 0.025, rel=1e-3)
    # of one pool alone, by its share; opposite shifts of two pools do not make up for each other
    assert float(shifted([sign * by] * 2 + [0.0] * 2)) == pytest.approx((by - 0.025) / 2, rel=1e-3)
    assert float(shifted([sign * by] * 2 + [-sign * by] * 2)) == pytest.approx(by - 0.025, rel=1e-3)


def test_answers_with_pools_of_their_own_count_together() -> None:
    pools = [(0, 1), (2, 3), (4, 5), (4, 5)]
    assert float(common_shift(torch.tensor([0.5, -0.5, 0.0, 0.0]), pools)) == 0.0
    assert float(common_shift(torch.tensor([0.5, 0.5, 0.0, 0.0]), pools)) == pytest.approx(0.475 / 2)


def test_a_divergence_hardly_counts_what_turns_answers_in_balance() -> None:
    """A twentieth of a logit off an answer in balance: it is no longer the likeliest, at a third of a millinat."""
    base = torch.tensor([[0.02, 0.0, -9.0, -9.0, -9.0]]).log_softmax(-1)
    moved = (base - torch.tensor([[0.05, 0.0, 0.0, 0.0, 0.0]])).log_softmax(-1)
    assert int(base.argmax()) == 0
    assert int(moved.argmax()) == 1
    answer, pools = torch.tensor([0]), [(0, 1, 2)]
    assert float(divergence(base, moved)) < 5e-4
    shift = log_odds(moved, answer, pools) - log_odds(base, answer, pools)
    assert float(common_shift(shift, pools)) == pytest.approx(0.025, abs=1e-3)


def test_the_pull_is_finite_and_towards_where_answers_stood() -> None:
    """Even where an answer has no alternative, and another a pool of its own."""
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    logits = base.clone().requires_grad_(True)
    answers, pools = torch.tensor([0, 1, 2, 3]), [(0, 1, 2), (0, 1, 2), (2,), (3, 4)]
    lowered = logits - torch.nn.functional.one_hot(answers, 6)
    common_shift(log_odds(lowered, answers, pools) - log_odds(base, answers, pools), pools).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    right = logits.grad[torch.arange(4), answers]
    assert bool((right[[0, 1, 3]] < 0).all())  # a step against the gradient raises the answer again
    assert float(right[2]) == 0.0
