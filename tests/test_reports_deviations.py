import pytest
from test_reports_render import load

from reports.deviations import deviations
from verify.contract.policy import Policy
from verify.contract.result import Result

STANDARD = {"policy": Policy(), "pre_registration": "to this policy", "level": "full"}


def standard() -> Result:
    """A result without departures: on the standard policy, with no check skipped."""
    result = load("pass_full")
    ran = tuple(check for check in result.checks if check.status != "skipped")
    return result.model_copy(update={**STANDARD, "checks": ran})


def test_the_standard_procedure_has_none() -> None:
    assert deviations(standard()) == ()


@pytest.mark.parametrize(
    ("update", "matter", "here"),
    [
        ({"level": "static"}, "Level", "static"),
        ({"level": "own-probes"}, "Probes", "auditor"),
        ({"pre_registration": "to none"}, "Pre-registration", "no policy"),
        ({"policy": Policy(forget_accuracy=0.3)}, "Policy: forget_accuracy", "0.3"),
        ({"policy": Policy(cad_rule="interval")}, "Policy: cad_rule", "interval"),
    ],
)
def test_each_departure_is_listed_alone(update: dict[str, object], matter: str, here: str) -> None:
    found = deviations(standard().model_copy(update=update))
    assert [each.matter for each in found] == [matter]
    assert here in found[0].here
    assert found[0].standard != found[0].here


@pytest.mark.parametrize(
    ("trust", "matter"),
    [
        ({"signature": "not checked"}, "Signature"),
        ({"signature": "invalid"}, "Signature"),
        ({"base_digest": "claimed by the producer"}, "Base model"),
        ({"base_digest": "not established"}, "Base model"),
    ],
)
def test_trust_that_is_missing_is_listed(trust: dict[str, str], matter: str) -> None:
    result = standard()
    changed = result.model_copy(update={"trust": result.trust.model_copy(update=trust)})
    assert [each.matter for each in deviations(changed)] == [matter]


def test_skipped_checks_are_named() -> None:
    result = load("fail_static")
    skipped = [check.id for check in result.checks if check.status == "skipped"]
    assert skipped
    assert any(all(each in found.here for each in skipped) for found in deviations(result))
