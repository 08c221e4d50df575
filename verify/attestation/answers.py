"""How the checks of a report are written down, and what they come to."""

from collections.abc import Iterable, Sequence
from typing import Literal

from verify.checks.catalog import REPORT_CATALOGUE
from verify.contract.result import Verdict
from verify.contract.verification import ReportCheck
from verify.errors import ArtefactError

Status = Literal["pass", "fail", "undecided", "skipped"]

REQUIRED = ("MV601", "MV602", "MV604", "MV603", "MV605")
"""What makes a report authentic. The other checks compare it with files, which may lie elsewhere by now."""
_AGAIN = "do not rely on this report; obtain it again from the verifier, with the files it is about"


def record(check_id: str, status: Status, expected: str, found: str, remedy: str = "") -> ReportCheck:
    """Record one check; the remedy is kept only where it is needed."""
    expected, found = (" ".join(text.split()) for text in (expected, found))
    needed = remedy if status in {"fail", "undecided"} else ""
    title = REPORT_CATALOGUE[check_id][1]
    return ReportCheck(id=check_id, title=title, status=status, expected=expected, found=found, remedy=needed)


def decided(check_id: str, expected: str, found: str, *, holds: bool, remedy: str = _AGAIN) -> ReportCheck:
    """Record a check by whether it holds."""
    return record(check_id, "pass" if holds else "fail", expected, found, remedy)


def refused(error: ArtefactError, check_id: str = "") -> ReportCheck:
    """Record the check that an error refuses, by default the error's own."""
    found = f"{error.message}: {error.found}" if error.found else error.message
    expected = error.expected or "as the format says"
    return record(check_id or error.id, "fail", expected, found, error.remedy or _AGAIN)


def completed(checks: Iterable[ReportCheck]) -> tuple[ReportCheck, ...]:
    """Return every check in the order of the catalogue, those not reached as skipped."""
    by_id = {check.id: check for check in checks}
    stopped = next((check.id for check in by_id.values() if check.status == "fail"), "an earlier check")
    reached = f"not reached: stopped by {stopped}"
    return tuple(by_id.get(check_id) or record(check_id, "skipped", "", reached) for check_id in REPORT_CATALOGUE)


def authentic(checks: Sequence[ReportCheck]) -> bool | None:
    """Tell whether the report is the verifier's; None where no key was given and nothing else speaks against it."""
    statuses = {check.id: check.status for check in checks}
    if all(statuses.get(check_id) == "pass" for check_id in REQUIRED):
        return True
    return None if "fail" not in (statuses.get(check_id) for check_id in REQUIRED) else False


def verdict(checks: Sequence[ReportCheck], reported: Verdict | None) -> Verdict:
    """Return FAIL if any check fails, UNDECIDED unless the report is authentic, else the report's own verdict."""
    if any(check.status == "fail" for check in checks):
        return "FAIL"
    if reported is None or not authentic(checks) or any(check.status == "undecided" for check in checks):
        return "UNDECIDED"
    return reported
