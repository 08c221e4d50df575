import hashlib

import pytest
from test_reports_render import NAMES, load

from reports import render_html, render_json, summary
from verify.contract.result import Result


def answers(result: Result) -> dict[str, tuple[str, str]]:
    named = {question: group for group, question in summary.QUESTIONS.items()}
    return {named[each.question]: (each.status, each.checks) for each in summary.questions(result)}


def test_the_worst_check_of_a_group_answers_its_question() -> None:
    assert answers(load("fail_static"))["permanence"][0] == "fail"
    assert answers(load("undecided_full"))["forgetting"][0] == "undecided"
    assert answers(load("pass_full"))["retention"][0] == "pass"
    assert answers(load("fail_static"))["forgetting"] == ("skipped", "no check of this kind was run")


def test_unsigned_files_are_never_said_to_be_the_signed_ones() -> None:
    result = load("pass_full")
    assert answers(result)["integrity"][0] == "pass"
    for signature in ("not checked", "invalid"):
        changed = result.model_copy(update={"trust": result.trust.model_copy(update={"signature": signature})})
        assert answers(changed)["integrity"][0] == "undecided"


@pytest.mark.parametrize("name", ["fail_static", "undecided_full"])
def test_what_did_not_pass_is_not_to_be_relied_on(name: str) -> None:
    assert all("not be relied on" in text for text in summary.means(load(name)))


def test_static_pass_says_that_nothing_was_run() -> None:
    static = load("pass_full").model_copy(update={"level": "static"})
    assert "No model was run" in summary.means(static)[-1]
    assert "not measured" in summary.said(static)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_page_holds_what_a_lawyer_asks(name: str) -> None:
    result = load(name)
    text = " ".join(render_html(result).split("<nav")[0].split())
    digest = hashlib.sha256(render_json(result).encode()).hexdigest()
    for said in (summary.VERDICT[result.verdict], result.timing.started, result.verifier, digest, *summary.MEANS_NOT):
        assert said in text
    assert "relates only to" in text
