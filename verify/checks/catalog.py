"""The catalogue of checks: stable ids with their group and title, and how an answer is written down.

Every check ends as one `CheckResult`; one that was not reached is recorded as skipped, with the reason.
"""

from collections.abc import Iterable
from typing import Literal, cast

from verify.contract.catalogue import CHECKS, DEPLOYED, REPORTS
from verify.contract.result import CheckResult, Level, Status
from verify.errors import ArtefactError

Group = Literal["integrity", "permanence", "forgetting", "retention", "erasure", "policy", "deployed"]

CATALOGUE: dict[str, tuple[Group, str]] = {entry.id: (cast("Group", entry.group), entry.title) for entry in CHECKS}
"""Id → (group, title), in the order in which a result lists them; declared in `verify.contract.catalogue`."""

DEPLOYED_CATALOGUE: dict[str, tuple[Group, str]] = {entry.id: ("deployed", entry.title) for entry in DEPLOYED}
"""Id → (group, title) of the checks of a deployed file; a result has them only where one was examined."""

REPORT_CATALOGUE: dict[str, tuple[Literal["report"], str]] = {entry.id: ("report", entry.title) for entry in REPORTS}
"""Id → (group, title) of the checks of `--check-report`; they are no part of a certificate's result."""

MODEL_RUNS = ("MV3", "MV4")
"""Ids that begin so need model runs and belong to the full level only."""

_ON_PRODUCERS_PROBES = frozenset({"MV308"})
"""Ids that compare with what the producer measured on its own probes: nothing measured on others can be held to it."""

_NOT_PART = {
    "static": "not part of the static checks",
    "own-probes": "not compared: the claims are about the producer's probes, and others were used",
    "full": "",
}

_WORST: tuple[Status, ...] = ("fail", "undecided", "skipped", "pass")


def belongs(check_id: str, level: Level) -> bool:
    """Tell whether a check is part of a level."""
    if level == "own-probes":
        return check_id not in _ON_PRODUCERS_PROBES
    return level == "full" or not check_id.startswith(MODEL_RUNS)


def passed(check_id: str, expected: str, found: str) -> CheckResult:
    """Record a check that holds."""
    return _record(check_id, "pass", expected, found)


def failed(check_id: str, expected: str, found: str, remedy: str) -> CheckResult:
    """Record a check that does not hold."""
    return _record(check_id, "fail", expected, found, remedy)


def undecided(check_id: str, expected: str, found: str, remedy: str) -> CheckResult:
    """Record a check that the evidence cannot decide."""
    return _record(check_id, "undecided", expected, found, remedy)


def decided(check_id: str, expected: str, found: str, remedy: str, *, holds: bool) -> CheckResult:
    """Record a check by whether it holds; the remedy is shown only when it does not."""
    return passed(check_id, expected, found) if holds else failed(check_id, expected, found, remedy)


def refused(error: ArtefactError) -> CheckResult:
    """Record the check that an artefact was refused by."""
    found = f"{error.message}: {error.found}" if error.found else error.message
    remedy = error.remedy or "do not use these files; obtain them again from their producer"
    return failed(error.id, error.expected or "as the format says", found, remedy)


def completed(checks: Iterable[CheckResult], level: Level, *, deployed: bool = False) -> tuple[CheckResult, ...]:
    """Return the whole catalogue in order: the checks given, the others as skipped with the reason.

    `deployed` says that a deployed file was to be examined too. Of two answers to one check the worse one counts.
    """
    by_id: dict[str, CheckResult] = {}
    for check in checks:
        known = by_id.get(check.id)
        if known is None or _WORST.index(check.status) < _WORST.index(known.status):
            by_id[check.id] = check
    blocking = next((c.id for c in by_id.values() if c.status == "fail"), None)
    blocking = blocking or next((c.id for c in by_id.values() if c.status == "undecided"), "an earlier check")
    wanted = (*CATALOGUE, *(DEPLOYED_CATALOGUE if deployed else ()))
    for check_id in wanted:
        if check_id not in by_id:
            reached = f"not reached: stopped by {blocking}"
            why = reached if belongs(check_id, level) else _NOT_PART[level]
            by_id[check_id] = _record(check_id, "skipped", "", why)
    return tuple(by_id[check_id] for check_id in wanted)


def _record(check_id: str, status: Status, expected: str, found: str, remedy: str = "") -> CheckResult:
    group, title = CATALOGUE.get(check_id) or DEPLOYED_CATALOGUE[check_id]
    expected, found = (" ".join(text.split()) for text in (expected, found))
    return CheckResult(
        id=check_id, group=group, title=title, status=status, expected=expected, found=found, remedy=remedy
    )
