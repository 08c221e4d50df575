"""MV310: no other reading of the answers tells what was forgotten.

Accuracy counts likeliest answers: it is as low for a model that knows and always says something else, or turns what it
knows over. CAD sees that on its pairs and in the circuit of the base, not where the knowledge was moved to another
place. These readings are of the questions themselves, wherever their answers come from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.behaviour.axes import Chosen, choose
from verify.behaviour.loading import Language
from verify.behaviour.probes import Probes
from verify.behaviour.statistics import proportion
from verify.checks.catalog import failed, passed, undecided
from verify.checks.decision import upper
from verify.checks.measured import Bare, Measured, chance, deciding, deciding_rows, places
from verify.contract.policy import Policy
from verify.contract.result import CheckResult

_REMEDY = "reject the certificate: who reads its answers otherwise finds what should have been forgotten"
_BARE = "without special tokens"
_PRECISIONS = ("full precision", "NF4")


@dataclass(frozen=True, slots=True)
class _Reading:
    """Which share of a row one reading finds the edited model to answer in one precision, and which it may."""

    words: str
    told: float
    bound: float


def ask_bare(four: Sequence[Language], probes: Probes) -> Bare | None:
    """Ask base and edited model, each in both precisions, the deciding questions without special tokens.

    None where that makes no difference to any.
    """
    choices = deciding(probes)
    tokenizer = four[0].tokenizer
    bare = [tokenizer(choice.prompt, add_special_tokens=False)["input_ids"] for choice in choices]
    if bare == [tokenizer(choice.prompt)["input_ids"] for choice in choices]:
        return None
    return Bare(*(choose(language, choices, probes.pools, special_tokens=False) for language in four))


def read_otherwise(measured: Measured, policy: Policy) -> CheckResult:
    """MV310: no reading of the deciding rows finds more than the policy's `rho` of what it finds in the base.

    Both counted above chance. Without special tokens the answers as such count too, and may be `forget_accuracy`.
    """
    expected = (
        f"at most {policy.rho:.3f} of what the base tells above chance, with each answer's mean logit taken off, and "
        "turned over"
    )
    if measured.bare is not None:
        expected += f"; the same {_BARE}, and accuracy at most {policy.forget_accuracy:.3f}"
    readings = list(_readings(measured, policy))
    if not readings:
        ask = "ask for probes whose answers the base prefers, each to its own question"
        return undecided("MV310", expected, "the base cannot be read so", ask)
    worst = max(readings, key=lambda reading: reading.told - reading.bound)
    found = f"{worst.told:.3f}, where {worst.bound:.3f} may be: {worst.words}"
    return passed("MV310", expected, found) if worst.told <= worst.bound else failed("MV310", expected, found, _REMEDY)


def _readings(measured: Measured, policy: Policy) -> Iterator[_Reading]:
    four = (measured.base, measured.base_nf4, measured.edited, measured.edited_nf4)
    asked = deciding(measured.probes)
    for row in deciding_rows(measured.probes):
        guessing = chance(measured, "forgetting", row)
        at = torch.tensor(places(measured.probes, "forgetting", row))
        yield from _without_priors(four, at, guessing, row, policy)
        if measured.bare is not None:
            bare = (measured.bare.base, measured.bare.base_nf4, measured.bare.edited, measured.bare.edited_nf4)
            mine = torch.tensor([i for i, choice in enumerate(asked) if choice.row == row])
            yield from _without_priors(bare, mine, guessing, f"{row}, {_BARE}", policy)
            for name, edited in zip(_PRECISIONS, bare[2:], strict=True):
                told = upper(proportion((edited.correct | edited.tied)[mine]), policy.forget_rule)
                yield _Reading(f"{row!a}, {_BARE} ({name})", told, policy.forget_accuracy)


def _without_priors(
    four: Sequence[Chosen], at: Tensor, guessing: float, row: str, policy: Policy
) -> Iterator[_Reading]:
    """Yield the readings of a row without priors; none where the base itself cannot be read so."""
    for name, base, edited in zip(_PRECISIONS, four[:2], four[2:], strict=True):
        known = proportion(base.corrected[at])
        if known.low <= guessing:
            continue
        bound = guessing + policy.rho * (known.value - guessing)
        for words, right in (("each answer's mean taken off", edited.corrected), ("turned over", edited.turned)):
            told = upper(proportion(right[at]), policy.forget_rule)
            yield _Reading(f"{row!a} ({name}, {words})", told, bound)
