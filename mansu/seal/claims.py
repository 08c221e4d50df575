"""What the producer claims, measured by the verifier's own code on the sealed files, freshly loaded."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from mansu.progress import Steps
from verify.behaviour.axes import Answers, measure
from verify.behaviour.loading import Language, nf4_copy
from verify.behaviour.probes import Probes, token_pairs
from verify.behaviour.statistics import paired_difference, perplexity, proportion
from verify.checks.measured import DECIDING
from verify.checks.study import reference_circuit
from verify.circuits import attribute, compare
from verify.contract.manifest import Claim
from verify.contract.schema import Estimate

Precision = Literal["full", "nf4"]


def measure_claims(
    base: Language, edited: Language, stored: torch.dtype, probes: Probes, *, steps: Steps
) -> tuple[Claim, ...]:
    """Measure accuracy, perplexity, PTQ gap and CAD of the edited model in full precision and after NF4."""
    deployed = nf4_copy(edited, stored)
    items = len(probes.choices) + len(probes.texts)
    answers: dict[Precision, Answers] = {}
    with steps.step("Measuring the sealed model", 2 * items) as advance:
        models: dict[Precision, Language] = {"full": edited, "nf4": deployed}
        for precision, language in models.items():
            answers[precision] = measure(language, probes, progress=advance)
    claims = [*_accuracies(probes, answers), *_prose(probes, answers)]
    pairs = token_pairs(edited.tokenizer, probes, "forget")
    if pairs:
        with steps.step("CAD of the sealed model", 3) as advance:
            reference = attribute(base.model, pairs)
            circuit = reference_circuit(reference)
            advance(1)
            for precision, language in models.items():
                value = compare(reference, attribute(language.model, pairs), circuit).cad
                estimate = Estimate(value=value, low=value, high=value, n=len(pairs))
                claims.append(Claim(axis="erasure", row="CAD", precision=precision, estimate=estimate))
                advance(1)
    return tuple(claims)


def forget_accuracy(claims: Sequence[Claim], precision: Precision) -> float:
    """Return the accuracy claimed on the forgetting rows that decide, of all their probes; on all rows if none does."""
    rows = [claim for claim in claims if claim.axis == "forgetting" and claim.precision == precision]
    deciding = [claim.estimate for claim in rows if claim.row.endswith(DECIDING)] or [claim.estimate for claim in rows]
    return sum(each.value * each.n for each in deciding) / sum(each.n for each in deciding)


def _accuracies(probes: Probes, answers: Mapping[Precision, Answers]) -> list[Claim]:
    claims = []
    for axis, row in dict.fromkeys((choice.axis, choice.row) for choice in probes.choices):
        chosen = torch.tensor([choice.axis == axis and choice.row == row for choice in probes.choices])
        correct = {precision: found.correct[chosen] for precision, found in answers.items()}
        claims += [
            Claim(axis=axis, row=row, precision=precision, estimate=proportion(correct[precision]))
            for precision in correct
        ]
        if axis == "forgetting":
            gap = paired_difference(correct["nf4"], correct["full"])
            claims.append(Claim(axis="ptq_gap", row=row, precision="difference", estimate=gap))
    return claims


def _prose(probes: Probes, answers: Mapping[Precision, Answers]) -> list[Claim]:
    claims = []
    for row in dict.fromkeys(text.row for text in probes.texts):
        chosen: Tensor = torch.tensor([text.row == row for text in probes.texts])
        claims += [
            Claim(
                axis="retention",
                row=row,
                precision=precision,
                estimate=perplexity(found.nll[chosen], found.tokens[chosen]),
            )
            for precision, found in answers.items()
        ]
    return claims
