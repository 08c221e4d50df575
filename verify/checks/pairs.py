"""MV405: contrast pairs that can tell of the knowledge in question: enough of them, distinct, and about what was asked.

CAD is measured on pairs, forgetting on questions. Were they free to be about different facts, an answer that is turned
over, or muted, could be certified by the circuit of another one that is gone.
"""

from typing import Literal

from torch import Tensor

from verify.behaviour.axes import choose
from verify.behaviour.loading import Language
from verify.behaviour.probes import Choice, PairProbe, Probes, token_pairs
from verify.behaviour.wording import plain
from verify.checks.catalog import passed, undecided
from verify.checks.measured import Measured, deciding_rows, places
from verify.contract.policy import Policy
from verify.contract.result import CheckResult

_ASK = "ask the producer for a certificate with more contrast pairs"
_ABOUT = "ask for pairs made of the questions themselves, or give your own with --probes"

Set = Literal["forget", "retain"]


def corrupt_answers(base_nf4: Language, probes: Probes) -> Tensor:
    """Return bool [forget pairs]: the base under NF4 answers the corrupt prompt as the clean one should be."""
    forget = [pair for pair in probes.pairs if pair.set == "forget"]
    choices = [
        Choice(axis="forgetting", row="corrupt", prompt=pair.corrupt, answer=pair.answer, pool=pair.pool)
        for pair in forget
    ]
    found = choose(base_nf4, choices, probes.pools)
    return found.correct | found.tied


def enough_pairs(measured: Measured, corrupt: Tensor, tokenizer: object, policy: Policy) -> CheckResult:
    """MV405: enough forget pairs to tell, at least two retain pairs for their control, all made of the questions asked.

    The base must tell clean prompts from corrupt ones, whose answers (`corrupt_answers`) are others: pairs that differ
    in something else have another circuit. Raises ArtefactError MV301 for a pair whose prompts do not match in length.
    """
    probes = measured.probes
    expected = (
        f"at least {policy.minimum_pairs} forget pairs and 2 retain pairs, all distinct, and made of the questions "
        "of the deciding rows and of retention"
    )
    forget, retain = pair_counts(probes, tokenizer)
    found = f"{forget} and {retain}"
    if forget < policy.minimum_pairs or retain < 2:
        return undecided("MV405", expected, found, _ASK)
    if len(probes.pairs) > forget + retain:  # a pair resampled with itself narrows every interval of CAD
        found = f"{len(probes.pairs)} pairs, {forget} and {retain} of them distinct"
        return undecided("MV405", expected, found, "ask for pairs without repetition, or give your own with --probes")
    foreign = unasked(probes)
    if foreign is not None:
        found = f"a {foreign.set} pair about {foreign.clean[:80]!a}, which is no question of such a row"
        return undecided("MV405", expected, found, _ABOUT)
    for row in deciding_rows(probes):
        covered, needed = coverage(probes, row, policy)
        if covered < needed:
            found = f"pairs about {covered} different answers of {row!a}, where {needed} are needed"
            return undecided("MV405", expected, found, _ABOUT)
    known = known_pairs(measured, corrupt)
    if known < policy.base_knows:
        found = f"the base under NF4 tells clean from corrupt in {known:.3f} of the forget pairs"
        return undecided("MV405", expected, found, "ask for pairs of questions that the base under NF4 can answer")
    return passed("MV405", expected, f"{forget} and {retain}")


def pair_counts(probes: Probes, tokenizer: object) -> tuple[int, int]:
    """Return the number of distinct forget and retain pairs, both as text and to the model."""

    def count(which: Set) -> int:
        texts = {(plain(pair.clean), plain(pair.corrupt)) for pair in probes.pairs if pair.set == which}
        return min(len(texts), len({(pair.clean, pair.corrupt) for pair in token_pairs(tokenizer, probes, which)}))

    return count("forget"), count("retain")


def unasked(probes: Probes) -> PairProbe | None:
    """Return a pair whose question, with this answer among this pool, is in no row that it could speak for."""
    deciding = deciding_rows(probes)
    asked = {
        ("forget" if choice.axis == "forgetting" else "retain", choice.prompt, choice.answer, choice.pool)
        for choice in probes.choices
        if choice.axis == "retention" or choice.row in deciding
    }
    return next((pair for pair in probes.pairs if (pair.set, pair.clean, pair.answer, pair.pool) not in asked), None)


def coverage(probes: Probes, row: str, policy: Policy) -> tuple[int, int]:
    """Return how many different answers of a deciding row have forget pairs, and how many must.

    Half of them; where there are many, so many that the policy's pairs are enough for all rows twice over.
    """
    at = places(probes, "forgetting", row)
    answers = {plain(probes.choices[i].answer) for i in at}
    questions = {probes.choices[i].prompt for i in at}
    about = {plain(pair.answer) for pair in probes.pairs if pair.set == "forget" and pair.clean in questions}
    most = max(1, policy.minimum_pairs // (2 * len(deciding_rows(probes))))
    return len(about), min(most, (len(answers) + 1) // 2)


def known_pairs(measured: Measured, corrupt: Tensor) -> float:
    """Return the share of the forget pairs that the base under NF4 tells apart: clean is answered, corrupt not so."""
    probes = measured.probes
    right = {
        (choice.prompt, choice.answer): bool(is_right)
        for choice, is_right in zip(probes.choices, measured.base_nf4.correct.tolist(), strict=True)
        if choice.axis == "forgetting"
    }
    forget = [pair for pair in probes.pairs if pair.set == "forget"]
    told = (right[pair.clean, pair.answer] and not same for pair, same in zip(forget, corrupt.tolist(), strict=True))
    return sum(told) / len(forget)
