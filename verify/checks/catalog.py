"""The catalogue of checks: stable ids with their group and title, and how an answer is written down.

Every check ends as one `CheckResult`; one that was not reached is recorded as skipped, with the reason.
"""

from collections.abc import Iterable
from typing import Literal

from verify.contract.result import CheckResult, Level, Status
from verify.errors import ArtefactError

Group = Literal["integrity", "permanence", "forgetting", "retention", "erasure"]

CATALOGUE: dict[str, tuple[Group, str]] = {
    "MV101": ("integrity", "Files are readable regular files"),
    "MV102": ("integrity", "The manifest is well formed"),
    "MV103": ("integrity", "The manifest is signed by a key the user trusts"),
    "MV104": ("integrity", "The manifest is of the type it should be"),
    "MV105": ("integrity", "The files are exactly those signed"),
    "MV112": ("integrity", "model.sig, if there is one, signs exactly the model's files"),
    "MV110": ("integrity", "Weight files and ledger are strict safetensors"),
    "MV111": ("integrity", "The weight files are the ones a loader would take"),
    "MV120": ("integrity", "The ledger is well formed"),
    "MV121": ("integrity", "The ledger fits the weights"),
    "MV106": ("integrity", "The model folder is usable and runs no code"),
    "MV107": ("integrity", "The base, rebuilt from the ledger, has the expected digests"),
    "MV108": ("integrity", "Every file beside the weights is the base's"),
    "MV109": ("integrity", "The declared mask is the set of changed values"),
    "MV201": ("permanence", "Every weight is a finite number"),
    "MV202": ("permanence", "Only weights that NF4 quantizes are masked"),
    "MV203": ("permanence", "Floor: every update is at least half a bin width"),
    "MV204": ("permanence", "Crossing: every masked value has a new 4-bit code"),
    "MV205": ("permanence", "Margin: every new code holds on every backend"),
    "MV206": ("permanence", "Realised: every dequantized value moved as far"),
    "MV207": ("permanence", "Scale: no block rescaled its unmasked values"),
    "MV208": ("permanence", "No unmasked 4-bit code changed"),
    "MV209": ("permanence", "Sparsity: few parameters changed"),
    "MV210": ("permanence", "Enough parameters are masked"),
    "MV211": ("permanence", "The usual deployment is among the profiles"),
    "MV301": ("forgetting", "The probes are well formed"),
    "MV302": ("forgetting", "NF4 was applied as defined"),
    "MV303": ("forgetting", "Positive control: the base under NF4 knows the forget set"),
    "MV309": ("forgetting", "There are enough probes of every kind"),
    "MV304": ("forgetting", "The forget set is forgotten, before and after NF4"),
    "MV307": ("forgetting", "NF4 brings nothing back (PTQ gap)"),
    "MV305": ("retention", "What should stay is still answered"),
    "MV306": ("retention", "Prose is modelled as well as before"),
    "MV405": ("erasure", "There are enough contrast pairs"),
    "MV401": ("erasure", "The forget circuit is gone (CAD)"),
    "MV402": ("erasure", "It is gone before the read-out and the late layers"),
    "MV403": ("erasure", "CAD lies above its controls"),
    "MV404": ("erasure", "The retain circuit is still there"),
    "MV308": ("forgetting", "The claims in the manifest are met"),
}
"""Id → (group, title), in the order in which a result lists them."""

MODEL_RUNS = ("MV3", "MV4")
"""Ids that begin so need model runs and belong to the full level only."""

_WORST: tuple[Status, ...] = ("fail", "undecided", "skipped", "pass")


def belongs(check_id: str, level: Level) -> bool:
    """Tell whether a check is part of a level."""
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


def completed(checks: Iterable[CheckResult], level: Level) -> tuple[CheckResult, ...]:
    """Return the whole catalogue in order: the checks given, the others as skipped with the reason.

    Of two answers to one check the worse one counts.
    """
    by_id: dict[str, CheckResult] = {}
    for check in checks:
        known = by_id.get(check.id)
        if known is None or _WORST.index(check.status) < _WORST.index(known.status):
            by_id[check.id] = check
    blocking = next((c.id for c in by_id.values() if c.status == "fail"), None)
    blocking = blocking or next((c.id for c in by_id.values() if c.status == "undecided"), "an earlier check")
    for check_id in CATALOGUE:
        if check_id not in by_id:
            reached = f"not reached: stopped by {blocking}"
            why = reached if belongs(check_id, level) else "not part of the static checks"
            by_id[check_id] = _record(check_id, "skipped", "", why)
    return tuple(by_id[check_id] for check_id in CATALOGUE)


def _record(check_id: str, status: Status, expected: str, found: str, remedy: str = "") -> CheckResult:
    group, title = CATALOGUE[check_id]
    expected, found = (" ".join(text.split()) for text in (expected, found))
    return CheckResult(
        id=check_id, group=group, title=title, status=status, expected=expected, found=found, remedy=remedy
    )
