"""Decision rules: which side of an interval counts, and that a stricter rule never accepts more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.checks.decision import at_least, at_most, words
from verify.contract.schema import Estimate

finite = st.floats(-10, 10)


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=100)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("point", {0.05: True, 0.049: False, 0.02: False, 0.08: True}),
        ("interval", {0.05: False, 0.08: True, 0.079: False, 0.02: False}),
        ("overlap", {0.02: True, 0.019: False, 0.05: True}),
    ],
)
def test_which_side_counts(rule: str, holds: dict[float, bool]) -> None:
    measured = estimate(0.05, 0.02, 0.08)
    mirrored = estimate(-0.05, -0.08, -0.02)
    for bound, expected in holds.items():
        assert at_most(bound, rule, measured) is expected, bound
        assert at_least(-bound, rule, mirrored) is expected, bound


def test_every_estimate_must_satisfy() -> None:
    good, bad = estimate(0.01, 0.0, 0.02), estimate(0.1, 0.09, 0.2)
    for rule in ("point", "interval", "overlap"):
        assert at_most(0.08, rule, good)
        assert not at_most(0.08, rule, good, bad)
        assert not at_most(0.08, rule, bad, good)
        assert not at_least(0.08, rule, bad, good)


def test_of_nothing_nothing_can_be_said() -> None:
    for decide in (at_most, at_least):
        with pytest.raises(TypeError):
            decide(1.0, "point", *())


@given(finite, finite, finite, finite)
def test_a_stricter_rule_never_accepts_more(value: float, low: float, high: float, bound: float) -> None:
    measured = estimate(value, min(low, high), max(low, high))
    for decide in (at_most, at_least):
        strict, plain, lax = (decide(bound, rule, measured) for rule in ("interval", "point", "overlap"))
        assert strict <= plain <= lax


@given(finite, finite, finite)
def test_the_default_of_the_gap_is_what_it_was(value: float, low: float, high: float) -> None:
    measured = estimate(value, min(low, high), max(low, high))
    assert at_most(0.0, "overlap", measured) == (measured.value <= 0.0 or measured.low <= 0)


def test_a_rule_other_than_the_point_is_said() -> None:
    assert words("point") == ""
    assert len({words("interval"), words("overlap"), ""}) == 3
