import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from test_reports_render import GOLDEN_FORMS, NAMES, Page, load

from reports import render_html, sections
from reports.clauses import NIST, SOURCES
from verify.contract.result import Result

CLAIM = re.compile(r"complian|\bcompl(y|ies|ied)\b|certified (to|under) (ISO|the)|conforms? (to|with)", re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("render", GOLDEN_FORMS.values())
def test_no_form_claims_that_a_text_is_met(name: str, render: Callable[[Result], str]) -> None:
    assert CLAIM.search(render(load(name))) is None


def test_every_clause_says_where_or_why_not() -> None:
    anchors = {*sections.TITLES, "verdict"}
    for source in SOURCES:
        for clause in source.clauses:
            assert clause.subject
            assert set(clause.evidence) <= anchors
            assert clause.evidence or clause.open, clause


def test_the_texts_are_those_asked_for() -> None:
    numbers = [clause.number for clause in NIST.clauses]
    assert numbers == [f"1.{n}" for n in range(1, 4)] + [f"2.{n}" for n in range(1, 14)]
    assert [word in source.name for word, source in zip(("17025", "Annex IV", "MEASURE", "GDPR"), SOURCES, strict=True)]
    letters = " ".join(clause.number for clause in SOURCES[0].clauses if clause.number.startswith("7.8.2.1"))
    assert set(re.findall(r"\b[a-p]\b", letters)) == set("abcdefghijklmnop")


def test_evidence_that_a_result_lacks_is_not_promised() -> None:
    static = "".join(Page(render_html(load("fail_static"))).text)
    assert "Four axes (empty in this report)" in static
    assert sections.empty(load("fail_static")) == {"axes", "erasure"}
    assert "(empty in this report)" not in "".join(Page(render_html(load("pass_full"))).text)


@pytest.mark.parametrize("name", NAMES)
def test_every_section_stands_on_the_page_in_its_order(name: str) -> None:
    page = Page(render_html(load(name)))
    ids = [anchor for anchor in page.ids if anchor in sections.TITLES]
    assert ids == list(sections.titles(load(name)))
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in pairwise(headings))
