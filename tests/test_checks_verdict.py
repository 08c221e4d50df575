"""From checks to a verdict: what is missing, skipped or said twice never counts in favour of a certificate."""

import pytest

from verify.checks.catalog import CATALOGUE, belongs, completed, failed, passed, refused, undecided
from verify.checks.verdict import headline, verdict
from verify.contract.result import CheckResult, Level
from verify.errors import ArtefactError

STATIC = [check_id for check_id in CATALOGUE if belongs(check_id, "static")]


def all_passed(level: Level) -> list[CheckResult]:
    return [passed(check_id, "e", "f") for check_id in CATALOGUE if belongs(check_id, level)]


@pytest.mark.parametrize("level", ["static", "full", "own-probes"])
def test_only_a_complete_level_passes(level: Level) -> None:
    checks = all_passed(level)
    assert verdict(completed(checks, level), level) == "PASS"
    for left_out in range(len(checks)):
        rest = checks[:left_out] + checks[left_out + 1 :]
        assert verdict(completed(rest, level), level) == "UNDECIDED"
    assert verdict(completed([], level), level) == "UNDECIDED"


def test_static_checks_are_no_full_verdict() -> None:
    checks = completed(all_passed("static"), "full")
    assert verdict(checks, "full") == "UNDECIDED"
    assert headline("UNDECIDED", checks, "full", ()).startswith("Could not decide: MV301")


def test_failure_wins_over_doubt() -> None:
    checks = [*all_passed("static"), undecided("MV103", "e", "no key", "r"), failed("MV203", "e", "f", "r")]
    found = completed(checks, "static")
    assert verdict(found, "static") == "FAIL"
    assert headline("FAIL", found, "static", ()).startswith("Refused: MV203")


def test_of_two_answers_to_one_check_the_worse_counts() -> None:
    good, bad, open_ = passed("MV105", "e", "f"), failed("MV105", "e", "f", "r"), undecided("MV105", "e", "f", "r")
    for pair, status in (((good, bad), "fail"), ((bad, good), "fail"), ((open_, good), "undecided")):
        found = {check.id: check.status for check in completed(pair, "static")}
        assert found["MV105"] == status


def test_the_whole_catalogue_is_listed_in_order() -> None:
    found = completed([failed("MV105", "e", "f", "r")], "static")
    assert [check.id for check in found] == list(CATALOGUE)
    by_id = {check.id: check for check in found}
    assert by_id["MV203"].found == "not reached: stopped by MV105"
    assert by_id["MV401"].found == "not part of the static checks"


def test_texts_stand_in_one_line_and_never_hold_the_verdicts_word() -> None:
    check = refused(ArtefactError("MV110", "bad", expected="a\nb", found="c\r\n  d"))
    assert (check.expected, check.found, check.status) == ("a b", "bad: c d", "fail")
    assert all("PASS" not in title for _, title in CATALOGUE.values())


def test_static_ids_are_those_of_files_and_weights() -> None:
    assert {check_id[:3] for check_id in STATIC} == {"MV1", "MV2", "MV5"}
