"""Intervals: what defines them, and that none leaves its own value out by rounding."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verify.behaviour.statistics import Z, paired_difference, proportion


def counted(right: int, n: int) -> torch.Tensor:
    return torch.arange(n) < right


@given(st.integers(1, 700).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_lies_within_its_interval_whose_ends_are_wilsons(case: tuple[int, int]) -> None:
    right, n = case
    found = proportion(counted(right, n))
    assert found.value == pytest.approx(right / n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):  # the shares from which this one is just z standard errors away
        assert abs(found.value - end) == pytest.approx(Z * math.sqrt(max(0.0, end * (1 - end)) / n), abs=1e-7)


@pytest.mark.parametrize("n", range(1, 400))
def test_all_or_none_is_an_end_of_the_interval_exactly(n: int) -> None:
    assert proportion(counted(n, n)).high == 1
    assert proportion(counted(0, n)).low == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_a_paired_difference_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    after, before = torch.tensor(pairs).unbind(1)
    one, other = paired_difference(after, before), paired_difference(before, after)
    assert one.value == pytest.approx(int(after.sum() - before.sum()) / len(pairs))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert -1 <= one.low < one.high <= 1
