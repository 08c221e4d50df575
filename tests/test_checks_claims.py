"""The manifest's claims against what was measured."""

import pytest

from verify.checks.claims import claims_met, measured_claims
from verify.contract.manifest import Claim
from verify.contract.policy import Policy
from verify.contract.result import AxisRow
from verify.contract.schema import Estimate

POLICY = Policy()


def estimate(value: float, n: int = 100) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=n)


MEASURED = {
    ("forgetting", "f", "full"): estimate(0.02),
    ("ptq_gap", "f", "difference"): estimate(-0.01),
    ("retention", "prose", "nf4"): estimate(25.0),
    ("erasure", "CAD", "full"): estimate(0.85, 60),
}


def claims(**changed: Estimate) -> list[Claim]:
    """Return honest claims; `changed` replaces the estimate of an axis."""
    return [
        Claim(axis=axis, row=row, precision=precision, estimate=changed.get(axis, value))
        for (axis, row, precision), value in MEASURED.items()
    ]


def status(made: list[Claim]) -> str:
    return claims_met(made, MEASURED, ["prose"], POLICY).status


def test_honest_claims_are_met() -> None:
    assert status(claims()) == "pass"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"forgetting": estimate(0.039)}, "pass"),
        ({"forgetting": estimate(0.041)}, "fail"),
        ({"ptq_gap": estimate(-0.2)}, "fail"),
        ({"erasure": estimate(0.9, 60)}, "fail"),
        # perplexity: relative
        ({"retention": estimate(25.4)}, "pass"),
        ({"retention": estimate(25.6)}, "fail"),
        ({"retention": estimate(24.4)}, "fail"),
        # the number of items is part of a claim
        ({"forgetting": estimate(0.02, 10_000)}, "fail"),
    ],
)
def test_tolerance(changed: dict[str, Estimate], expected: str) -> None:
    assert status(claims(**changed)) == expected


def test_nothing_measured_goes_unclaimed() -> None:
    check = claims_met(claims()[1:], MEASURED, ["prose"], POLICY)
    assert check.status == "fail"
    assert "no claim of forgetting 'f' (full)" in check.found


def test_nothing_unmeasured_is_claimed() -> None:
    extra = Claim(axis="retention", row="world knowledge", precision="full", estimate=estimate(0.99))
    check = claims_met([*claims(), extra], MEASURED, ["prose"], POLICY)
    assert check.status == "fail"
    assert "world knowledge" in check.found


def test_what_could_not_be_measured_is_not_held_against_its_claim() -> None:
    named = {**MEASURED, ("erasure", "CAD", "full"): None}
    assert claims_met(claims(), named, ["prose"], POLICY).status == "pass"


def test_names_of_what_is_measured() -> None:
    row = AxisRow(
        axis="forgetting",
        row="f",
        unit="accuracy",
        base=estimate(0.8),
        base_nf4=estimate(0.7),
        edited=estimate(0.02),
        edited_nf4=estimate(0.01),
        difference=estimate(-0.78),
        difference_nf4=estimate(-0.69),
        rule="",
        status="pass",
    )
    gap = row.model_copy(update={"axis": "ptq_gap", "difference": estimate(-0.1), "difference_nf4": estimate(-0.01)})
    assert measured_claims([row, gap], None) == {
        ("forgetting", "f", "full"): row.edited,
        ("forgetting", "f", "nf4"): row.edited_nf4,
        ("ptq_gap", "f", "difference"): gap.difference_nf4,
        ("erasure", "CAD", "full"): None,
        ("erasure", "CAD", "nf4"): None,
    }
