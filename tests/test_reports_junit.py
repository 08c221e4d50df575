"""JUnit XML: what CI servers count. The golden documents are compared in test_reports_render."""

import re
from xml.etree.ElementTree import Element, fromstring

import pytest
from test_reports_render import NAMES, load, poisoned
from test_reports_sarif import FAILURE

from reports import render_junit, render_junit_failure
from verify.contract.result import Result

OUTCOME = {"pass": None, "fail": "failure", "undecided": "error", "skipped": "skipped"}


def suite_of(rendered: str) -> Element:
    """Return the one suite, after a check of the counts against the cases and of every element's place."""
    root = fromstring(rendered.encode())
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    for node in (root, suite):
        assert node.get("tests") == str(len(cases))
        for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert node.get(name) == str(len(suite.findall(f"testcase/{element}")))
    for case in cases:
        assert case.keys() == ["classname", "name", "time"]
        assert len(case) <= 1
    return suite


def outcome(case: Element) -> str | None:
    return next((child.tag for child in case if child.tag != "system-out"), None)


@pytest.mark.parametrize("result", [*map(load, NAMES), *map(poisoned, NAMES)])
def test_one_case_a_check_and_one_for_the_verdict(result: Result) -> None:
    *cases, verdict = suite_of(render_junit(result)).findall("testcase")
    assert [outcome(case) for case in cases] == [OUTCOME[check.status] for check in result.checks]
    assert outcome(verdict) == {"PASS": None, "FAIL": "failure", "UNDECIDED": "error"}[result.verdict]


@pytest.mark.parametrize("verdict", ["FAIL", "UNDECIDED"])
def test_skipped_cases_alone_are_no_green_light(verdict: str) -> None:
    result = load("pass_full")
    checks = tuple(check.model_copy(update={"status": "skipped"}) for check in result.checks)
    suite = suite_of(render_junit(result.model_copy(update={"verdict": verdict, "checks": checks})))
    assert suite.get("failures") != "0" or suite.get("errors") != "0"


def test_an_open_case_says_what_was_expected_found_and_next() -> None:
    result = load("fail_static")
    failing = next(check for check in result.checks if check.status == "fail")
    case = next(case for case in suite_of(render_junit(result)) if case.get("name", "").startswith(failing.id))
    assert case[0].get("type") == failing.id
    for text in (failing.expected, failing.found, failing.remedy):
        assert text in (case[0].text or "")


@pytest.mark.parametrize("text", ["]]><x>", "\x00\x0b\ufffe", "::error::x", "##vso[x]", "a\r\nb", "&amp;<"])
def test_hostile_text_is_shown_not_obeyed(text: str) -> None:
    rendered = render_junit(poisoned("fail_static", text))
    suite_of(rendered)
    assert not any(line.lstrip().startswith("::") for line in rendered.splitlines())
    assert "##" not in rendered
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe]", rendered) is None


def test_an_error_is_one_case_with_an_error() -> None:
    (case,) = suite_of(render_junit_failure(FAILURE)).findall("testcase")
    assert outcome(case) == "error"
    assert case[0].get("message") == "no manifest given"
