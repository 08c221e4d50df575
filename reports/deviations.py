"""Departures from the standard procedure that a result shows: what differs, what the standard is, what it means.

The standard is the full level on mansu's own policy, fixed beforehand, on a base that its vendor signed or the user
pinned, by a key that the user gave.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from reports import policy_words, wording
from verify.contract.policy import Policy
from verify.contract.result import Result


@dataclass(frozen=True)
class Deviation:
    """One departure: the matter, the standard procedure, what this run did, and what the reader should mind."""

    matter: str
    standard: str
    here: str
    mind: str


def deviations(result: Result) -> tuple[Deviation, ...]:
    """Return every departure, those of the procedure before those of the thresholds."""
    return (*_level(result), *_trust(result), *_rules(result), *_thresholds(result.policy))


def _level(result: Result) -> Iterator[Deviation]:
    if result.level == "static":
        yield Deviation("Level", wording.LEVEL["full"], wording.LEVEL["static"], "Behaviour was not measured.")
    if result.level == "own-probes":
        yield Deviation(
            "Probes", "the producer's", "the auditor's own", "The producer's claimed numbers were not compared."
        )
    skipped = [check.id for check in result.checks if check.status == "skipped"]
    if skipped:
        here = f"skipped: {', '.join(skipped)}"
        yield Deviation("Checks", "every check is run", here, "Nothing follows from a skipped check.")


def _trust(result: Result) -> Iterator[Deviation]:
    trust = result.trust
    if trust.signature != "valid":
        yield Deviation(
            "Signature",
            "valid under a key that the user gave",
            wording.signature(result),
            "Nobody vouches for the manifest's claims.",
        )
    if trust.base_digest not in {"signed by the vendor", "pinned by the user"}:
        yield Deviation(
            "Base model",
            "signed by its vendor or pinned by the user",
            trust.base_digest,
            "Which model was edited rests on no word but the producer's, or on none.",
        )


def _rules(result: Result) -> Iterator[Deviation]:
    if result.pre_registration != "to this policy":
        yield Deviation(
            "Pre-registration",
            "the signed manifest committed to this policy",
            policy_words.PRE_REGISTRATION[result.pre_registration],
            "The thresholds may have been chosen after the numbers were known.",
        )


def _thresholds(policy: Policy) -> Iterator[Deviation]:
    standard = dict(_shown(Policy()))
    meaning = dict(policy_words.THRESHOLDS)
    for field, value in _shown(policy):
        if value != standard[field]:
            yield Deviation(f"Policy: {field}", standard[field], value, f"Means: {meaning[field]}.")


def _shown(policy: Policy) -> list[tuple[str, str]]:
    return [(field, value) for field, value, _ in policy_words.thresholds(policy)]
