"""Outcomes of the proofs as text and JSON: everything is said, within the width, and a surprise is a FAIL."""

import json

import pytest
from rich.cells import cell_len

from reports.theorems import render_theorems, render_theorems_json
from verify.contract.theorems import STATEMENTS, Status, Theorem


def outcome(index: int, status: Status, **changes: str) -> Theorem:
    example = changes.get("counterexample", "x = 0.25 moves to x′ = 0.5")
    return Theorem(STATEMENTS[index], status, example, (("at least", "0.0123"),), "z3", 1.234)


EXPECTED = tuple(outcome(i, statement.expected) for i, statement in enumerate(STATEMENTS))


@pytest.mark.parametrize("width", [60, 80])
def test_each_theorem_is_stated_with_its_status_counterexample_constants_and_time(width: int) -> None:
    text = render_theorems(EXPECTED, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    words = " ".join(text.split())
    for statement in STATEMENTS:
        assert f"{statement.id} {statement.name}: {statement.expected}, as stated (1.23 s)" in words
        assert statement.words in words
    assert words.count("- counterexample: x = 0.25 moves to x′ = 0.5") == 2
    assert words.count("- just beyond it: x = 0.25") == 10
    assert words.count("at least: 0.0123") == words.count("- method: z3") == 12
    assert text.endswith("all 12 theorems came out as stated\n")


@pytest.mark.parametrize("status", ["refuted", "undecided"])
def test_another_outcome_is_a_failure(status: Status) -> None:
    theorems = (EXPECTED[0], outcome(1, status, counterexample=""))
    text = render_theorems(theorems)
    assert f"{status}, but stated as proved: FAIL" in " ".join(text.split())
    assert text.endswith("FAIL: T2 of 2 theorems came out otherwise than stated\n")
    assert "just beyond" not in text
    assert json.loads(render_theorems_json(theorems))["holds"] is False


def test_an_undecided_theorem_gives_the_reason() -> None:
    text = render_theorems((outcome(3, "undecided", counterexample="z3 gave up: timeout"),))
    assert "- reason: z3 gave up: timeout" in text


def test_json_carries_every_field_in_ascii() -> None:
    rendered = render_theorems_json(EXPECTED)
    assert rendered.isascii()
    document = json.loads(rendered)
    assert document["holds"] is True
    assert [entry["statement"]["id"] for entry in document["theorems"]] == [s.id for s in STATEMENTS]
    assert document["theorems"][0]["constants"] == [["at least", "0.0123"]]
    assert document["theorems"][0]["statement"]["expected"] == "refuted"
