"""The result as JUnit XML, the dialect that CI servers read: one test case a check, and one for the verdict.

A check that failed is a failure, one that stayed undecided an error, one that was not reached skipped; the verdict's
own case is a failure or an error unless the verdict is a pass, so that a file of skipped cases is no green light.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from reports import wording
from reports.plain import neutral
from verify.contract.failure import Failure
from verify.contract.result import CheckResult, Result

SUITE = "mansu-verify"


def render_junit(result: Result) -> str:
    """Return a document with one suite, in UTF-8 with a final newline; XML's own escaping covers every string."""
    statuses = [check.status for check in result.checks] + [_VERDICT[result.verdict]]
    seconds = f"{result.timing.seconds:.1f}"
    root, suite = _suite(
        tests=len(statuses),
        failures=statuses.count("fail"),
        errors=statuses.count("undecided"),
        skipped=statuses.count("skipped"),
        seconds=seconds,
    )
    suite.set("timestamp", neutral(result.timing.started).removesuffix("Z"))
    properties = SubElement(suite, "properties")
    for name, value in (
        ("verdict", result.verdict),
        ("headline", result.headline),
        ("verifier", result.verifier),
        ("level", result.level),
        ("policy_sha256", result.policy_sha256),
        ("manifest_sha256", result.manifest_sha256 or "none read"),
        ("repeat", result.repeat),
    ):
        SubElement(properties, "property", name=name, value=neutral(value))
    for check in result.checks:
        _case(suite, check)
    _verdict(suite, result, seconds)
    return _written(root)


def render_junit_failure(failure: Failure) -> str:
    """Return a suite whose one case is an error: the command ended without a result."""
    root, suite = _suite(tests=1, failures=0, errors=1, skipped=0, seconds="0.0")
    case = SubElement(suite, "testcase", classname=f"{SUITE}.error", name=neutral(failure.id), time="0.0")
    _said(case, "error", failure.id, failure.message, failure.expected, failure.found, failure.remedy)
    return _written(root)


_VERDICT = {"PASS": "pass", "FAIL": "fail", "UNDECIDED": "undecided"}
_ELEMENT = {"fail": "failure", "undecided": "error", "skipped": "skipped"}


def _suite(*, tests: int, failures: int, errors: int, skipped: int, seconds: str) -> tuple[Element, Element]:
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    attributes = {"name": SUITE} | {name: str(number) for name, number in counts.items()} | {"time": seconds}
    root = Element("testsuites", attributes)
    return root, SubElement(root, "testsuite", attributes)


def _case(suite: Element, check: CheckResult) -> None:
    name = neutral(f"{check.id} {check.title}")
    case = SubElement(suite, "testcase", classname=f"{SUITE}.{check.group}", name=name, time="0.0")
    if check.status == "pass":
        SubElement(case, "system-out").text = neutral(f"expected: {check.expected}; found: {check.found}")
    else:
        _said(case, _ELEMENT[check.status], check.id, check.found, check.expected, check.found, check.remedy)


def _verdict(suite: Element, result: Result, seconds: str) -> None:
    case = SubElement(suite, "testcase", classname=f"{SUITE}.verdict", name="verdict", time=seconds)
    if result.verdict != "PASS":
        element = _ELEMENT[_VERDICT[result.verdict]]
        _said(case, element, result.verdict, result.headline, "", wording.tally(result), "")


def _said(case: Element, element: str, kind: str, message: str, expected: str, found: str, remedy: str) -> None:
    """Add the element that tells how a case ended; `skipped` has no type in the dialect."""
    child = SubElement(case, element, message=neutral(message))
    if element != "skipped":
        child.set("type", neutral(kind))
        parts = (("expected", expected), ("found", found), ("next", remedy))
        child.text = "\n".join(f"{label}: {neutral(value)}" for label, value in parts if value)


def _written(root: Element) -> str:
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'
