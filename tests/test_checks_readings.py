"""MV310: what accuracy does not show, read from the same answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_checks_behaviour import BASE, BASE_NF4, FORGET, GOOD, GOOD_NF4, POLICY, N, answers, probes, tokens_of

from verify.behaviour.axes import Answers, Chosen
from verify.checks.measured import Bare, Measured, deciding
from verify.checks.readings import ask_bare, read_otherwise
from verify.contract.result import CheckResult

ASKED = tokens_of(probes())
FULL_BOUND, NF4_BOUND = 0.02 + 0.25 * (0.8 - 0.02), 0.02 + 0.25 * (0.7 - 0.02)
"""Chance is .02; the base tells .8 and .7 without priors."""


def first(count: int) -> torch.Tensor:
    """Return the answers of a model that gives the first so many of each row."""
    return answers(count, count, count).correct


def read(bare: Bare | None = None, **models: Answers) -> CheckResult:
    four = {"base": BASE, "base_nf4": BASE_NF4, "edited": GOOD, "edited_nf4": GOOD_NF4, **models}
    return read_otherwise(Measured(probes(), ASKED, **four, bare=bare), POLICY)


def test_an_edit_that_left_nothing_holds() -> None:
    check = read()
    assert check.status == "pass"
    assert f"where {NF4_BOUND:.3f} may be" in check.found
    assert "special tokens" not in check.expected


@pytest.mark.parametrize("precision", ["edited", "edited_nf4"])
@pytest.mark.parametrize(("field", "words"), [("corrected", "each answer's mean taken off"), ("turned", "turned over")])
def test_knowledge_under_a_constant_answer_or_turned_over_is_found(precision: str, field: str, words: str) -> None:
    edited, bound = (GOOD, FULL_BOUND) if precision == "edited" else (GOOD_NF4, NF4_BOUND)
    most = int(100 * bound + 1e-9)
    assert read(**{precision: replace(edited, **{field: first(most)})}).status == "pass"
    check = read(**{precision: replace(edited, **{field: first(most + 1)})})
    assert check.status == "fail"
    assert check.found.startswith(f"{(most + 1) / 100:.3f}, where {bound:.3f} may be: {FORGET!a}")
    assert words in check.found


def test_rows_that_are_not_decided_upon_are_not_read() -> None:
    others = torch.cat([torch.zeros(N, dtype=torch.bool), torch.ones(2 * N, dtype=torch.bool)])
    assert read(edited=replace(GOOD, corrected=others, turned=others)).status == "pass"


def test_where_the_base_tells_nothing_so_nothing_can_remain() -> None:
    blind = {"base": replace(BASE, corrected=first(3)), "base_nf4": replace(BASE_NF4, corrected=first(3))}
    check = read(**blind, edited=replace(GOOD, turned=first(100)))
    assert check.status == "undecided"
    one = {"base": blind["base"], "edited": replace(GOOD, turned=first(100))}
    assert read(**one).status == "pass", "after NF4 the base can be read, and there nothing remains"


def bare(**changed: torch.Tensor) -> Bare:
    """Return answers without special tokens that tell as little as the others."""

    def chosen(found: Answers) -> Chosen:
        return Chosen(*(getattr(found, field)[:N] for field in ("correct", "tied", "mass", "corrected", "turned")))

    four = Bare(chosen(BASE), chosen(BASE_NF4), chosen(GOOD), chosen(GOOD_NF4))
    return replace(four, edited_nf4=replace(four.edited_nf4, **{name: value[:N] for name, value in changed.items()}))


@pytest.mark.parametrize(("field", "most"), [("correct", 8), ("tied", 7), ("corrected", 19), ("turned", 19)])
def test_what_is_told_without_special_tokens_counts(field: str, most: int) -> None:
    """A tie counts as known: GOOD_NF4 answers one of a hundred, so that the first tie is that answer's own place."""
    shown = read(bare())
    assert shown.status == "pass"
    assert "the same without special tokens, and accuracy at most 0.080" in shown.expected
    most = most + 1 if field == "tied" else most
    assert read(bare(**{field: first(most)})).status == "pass"
    check = read(bare(**{field: first(most + 1)}))
    assert check.status == "fail"
    assert "without special tokens" in check.found
    assert "NF4" in check.found


def test_nothing_is_asked_again_where_special_tokens_make_no_difference() -> None:
    def tokenizer(text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [*([0] if add_special_tokens and special else []), *range(1, len(text.split()))]}

    asked = probes()
    assert {choice.row for choice in deciding(asked)} == {FORGET}
    special = False
    assert ask_bare([SimpleNamespace(tokenizer=tokenizer)], asked) is None  # type: ignore[list-item]
    special = True
    with pytest.raises(AttributeError, match="model"):  # now a model is asked
        ask_bare([SimpleNamespace(tokenizer=tokenizer, device=None)] * 4, asked)  # type: ignore[list-item]
