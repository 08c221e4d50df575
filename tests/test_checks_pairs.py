"""Which contrast pairs can tell of what was asked (MV405)."""

from dataclasses import replace

import certificates as c
import pytest
import torch

from verify.behaviour.axes import Answers, Asked
from verify.behaviour.probes import PairProbe, Probes
from verify.checks.measured import Measured
from verify.checks.pairs import coverage, enough_pairs
from verify.contract.policy import Policy
from verify.contract.result import CheckResult

POLICY = Policy()
PROBES = c.probes()
CAPITAL = {"clean": c.held_out_wording("country0"), "corrupt": c.held_out_wording("country1")}
COLOUR = {"clean": c.prompt("colour", "country0"), "corrupt": c.prompt("colour", "country1")}


def checked(probes: Probes = PROBES, policy: Policy = POLICY, *, known: int = 1000, same: int = 0) -> CheckResult:
    """Check pairs; the base under NF4 knows the first `known` questions, and says the same to `same` corrupt ones."""
    count = len(probes.choices)
    right = torch.arange(count) < known
    no = torch.zeros_like(right)
    answers = Answers(right, no, torch.ones(count), right, no, torch.ones(0), torch.ones(0))
    asked = Asked((), (), (), (), 1)  # as tokens nothing is looked at here
    corrupt = torch.arange(sum(pair.set == "forget" for pair in probes.pairs)) < same
    return enough_pairs(Measured(probes, asked, answers, answers, answers, answers), corrupt, c.tokenizer(), policy)


def with_pairs(*pairs: PairProbe) -> Probes:
    return replace(PROBES, pairs=pairs)


def changed(which: str, **values: str) -> Probes:
    """Change the first pair of a set."""
    at = next(i for i, pair in enumerate(PROBES.pairs) if pair.set == which)
    return with_pairs(*PROBES.pairs[:at], PROBES.pairs[at].model_copy(update=values), *PROBES.pairs[at + 1 :])


def test_pairs_made_of_the_questions_are_enough() -> None:
    assert (checked().status, checked().found) == ("pass", "40 and 40")
    assert checked(policy=Policy(minimum_pairs=41)).status == "undecided"


def test_a_pair_that_is_there_twice_decides_nothing() -> None:
    check = checked(with_pairs(*PROBES.pairs, PROBES.pairs[0]))
    assert (check.status, check.found) == ("undecided", "81 pairs, 40 and 40 of them distinct")


def test_other_white_space_is_no_other_pair() -> None:
    first = PROBES.pairs[0]
    repeated = first.model_copy(update={"corrupt": first.corrupt.replace(" and ", "  and  ")})
    check = checked(with_pairs(*PROBES.pairs, repeated))
    assert (check.status, check.found) == ("undecided", "81 pairs, 40 and 40 of them distinct")


@pytest.mark.parametrize(
    ("which", "values"),
    [
        ("forget", {"clean": c.prompt("capital", "country0"), "corrupt": c.prompt("capital", "country1")}),
        ("forget", {"answer": c.capital(3)}),
        ("forget", {"pool": "colours", "answer": c.colour(0)}),
        ("forget", COLOUR | {"answer": c.colour(0), "pool": "colours"}),
        ("retain", CAPITAL | {"answer": c.capital(0), "pool": "capitals"}),
    ],
    ids=[
        "another wording",
        "another answer",
        "another pool",
        "a question that is kept",
        "a question that is forgotten",
    ],
)
def test_a_pair_about_what_is_not_asked_decides_nothing(which: str, values: dict[str, str]) -> None:
    check = checked(changed(which, **values))
    assert check.status == "undecided"
    assert "which is no question of such a row" in check.found


def test_rows_that_are_only_reported_are_not_spoken_for() -> None:
    renamed = tuple(
        choice.model_copy(update={"row": "capitals, held-out facts"}) if choice.axis == "forgetting" else choice
        for choice in PROBES.choices
    )
    assert checked(replace(PROBES, choices=renamed)).status == "undecided"


def test_pairs_must_be_about_many_answers() -> None:
    """Forty pairs of one country, with every other as partner, say nothing of the thirty-nine others."""
    retain = [pair for pair in PROBES.pairs if pair.set == "retain"]
    first = PROBES.pairs[0]
    others = [country for country in c.COUNTRIES if country != "country0"]
    forget = [first.model_copy(update={"corrupt": c.held_out_wording(country)}) for country in others]
    check = checked(with_pairs(*forget, *retain), Policy(minimum_pairs=30))
    assert check.status == "undecided"
    assert check.found.startswith("pairs about 1 different answers of 'capitals, held-out wordings'")


def test_how_many_answers_depends_on_the_rows_and_the_policy() -> None:
    row = "capitals, held-out wordings"
    answers = len({c.capital(i) for i in range(len(c.COUNTRIES))})
    assert coverage(PROBES, row, POLICY) == (answers, min(20, (answers + 1) // 2))
    assert coverage(PROBES, row, Policy(minimum_pairs=10)) == (answers, 5)
    assert coverage(PROBES, row, Policy(minimum_pairs=2)) == (answers, 1)


def test_pairs_of_questions_that_the_base_cannot_answer_decide_nothing() -> None:
    assert checked(known=10).status == "pass"
    check = checked(known=9)
    assert (check.status, check.found) == (
        "undecided",
        "the base under NF4 tells clean from corrupt in 0.225 of the forget pairs",
    )


def test_pairs_whose_corrupt_prompt_has_the_same_answer_decide_nothing() -> None:
    """Such a pair differs in something that the knowledge does not rest on, and so has another circuit."""
    pairs = sum(pair.set == "forget" for pair in PROBES.pairs)
    assert checked(same=3 * pairs // 4).status == "pass"
    check = checked(same=3 * pairs // 4 + 1)
    assert check.status == "undecided"
    assert "tells clean from corrupt" in check.found
