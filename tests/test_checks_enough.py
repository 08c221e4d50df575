"""Which questions can decide (MV303, MV305, MV306, MV309): those that differ, and that a base really answers."""

from dataclasses import replace

import pytest
from test_checks_behaviour import BASE, BASE_NF4, FORGET, GOOD, GOOD_NF4, POLICY, RETAIN, answers, probes, tokens_of

from verify.behaviour.axes import Asked
from verify.behaviour.probes import Probes
from verify.behaviour.wording import plain
from verify.checks.behaviour import judge
from verify.checks.enough import distinct, enough_probes, guessed
from verify.checks.measured import Measured, columns
from verify.contract.policy import Policy

ASKED = tokens_of(probes())


def measured(asked: Asked = ASKED, questions: Probes | None = None) -> Measured:
    return Measured(questions or probes(), asked, BASE, BASE_NF4, GOOD, GOOD_NF4)


def statuses(found: Measured, policy: Policy = POLICY) -> dict[str, str]:
    return {check.id: check.status for check in judge(found, policy)[0]}


@pytest.mark.parametrize(
    "again",
    ["the  capital of\tX", " the capital of X ", "The Capital OF x", "the capi\u00adtal of X", "the c\uff41pital of X"],
)
def test_what_looks_alike_is_one_text(again: str) -> None:
    assert plain(again) == plain("the capital of X")
    assert plain("the capital of Y") != plain("the capital of X")


def test_the_same_question_in_other_white_space_is_one_probe() -> None:
    spaced = tuple(
        choice.model_copy(update={"prompt": " " * i + "same " + choice.row})
        for i, choice in enumerate(probes().choices)
    )
    found = measured(questions=replace(probes(), choices=spaced))
    assert distinct(found, "forgetting", FORGET) == 1
    assert (enough_probes(found, POLICY).status, statuses(found)["MV304"]) == ("undecided", "undecided")


@pytest.mark.parametrize("kind", ["prompts", "texts"])
def test_what_the_model_is_given_as_the_same_tokens_is_one_probe(kind: str) -> None:
    """A tokenizer that folds what differs as text, or knows none of its words."""
    tokens = getattr(ASKED, kind)
    check = enough_probes(measured(replace(ASKED, **{kind: (tokens[1], *tokens[1:])})), POLICY)
    assert check.status == "undecided"
    assert "100 probes, 99 of them distinct" in check.found


def test_what_is_guessed_is_chance_or_the_commonest_answer() -> None:
    count = len(ASKED.answers)
    assert guessed(measured(), "forgetting", FORGET) == pytest.approx(0.02)
    assert guessed(measured(replace(ASKED, chance=(0.25,) * count)), "forgetting", FORGET) == pytest.approx(0.25)
    assert guessed(measured(replace(ASKED, answers=(7,) * count)), "forgetting", FORGET) == 1
    assert guessed(measured(), "forgetting", "no such row") == 0


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (replace(ASKED, chance=(0.5,) * 300), "pass"),  # .70 after NF4, its interval from .60
        (replace(ASKED, chance=(0.61,) * 300), "undecided"),
        (replace(ASKED, answers=(7,) * 300), "undecided"),
    ],
)
def test_a_base_that_gives_one_answer_or_guesses_knows_nothing(asked: Asked, status: str) -> None:
    assert statuses(measured(asked))["MV303"] == status


def test_a_row_that_one_answer_keeps_cannot_be_lost() -> None:
    found = measured(replace(ASKED, answers=(7,) * 300))
    assert statuses(found)["MV305"] == "undecided"
    assert statuses(found, Policy(retention_loss=1.0))["MV305"] == "pass"


def test_prose_that_the_base_takes_for_noise_cannot_be_lost() -> None:
    """3.2 nats a token are a perplexity of 24.5, and .03 more would be allowed."""
    assert statuses(measured(replace(ASKED, vocabulary=26)))["MV306"] == "pass"
    assert statuses(measured(replace(ASKED, vocabulary=25)))["MV306"] == "undecided"


def test_a_tie_counts_against_the_certificate() -> None:
    tied = replace(answers(0, 0, 0), tied=answers(100, 100, 100).correct)
    found = Measured(probes(), ASKED, tied, tied, tied, tied)
    forget, retain = columns(found, "forgetting", FORGET), columns(found, "retention", RETAIN)
    assert bool(forget.edited.all() and forget.edited_nf4.all() and retain.base.all() and retain.base_nf4.all())
    assert not bool(forget.base.any() or forget.base_nf4.any() or retain.edited.any() or retain.edited_nf4.any())
