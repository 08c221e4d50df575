"""Markdown: hostile text changes nothing but words. The golden summaries are compared in test_reports_render."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_reports_render import NAMES, load, poisoned
from test_reports_sarif import FAILURE

from reports import render_entry, render_markdown, render_markdown_failure
from reports.markdown import escaped
from reports.plain import neutral
from verify.contract.catalogue import ENTRIES

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = (
    "|a|b|",
    "`code` ``x",
    "</details><script>alert(1)</script><!--",
    "::error::x",
    "##vso[x]",
    "[x](javascript:alert(1)) ![y](z) <https://a.b> https://a.b www.a.b",
    "*bold* _it_ ~~no~~ \\| &lt; @someone #12 $x$",
    "# title",
    "- item",
    "1. item",
    "```\nfence\n```",
    "a\n\n---\n\nb",
)


def shape(text: str) -> Counter[str]:
    """Return how often each kind of element occurs, and the HTML that stays HTML."""
    tokens = [inner for token in PARSER.parse(text) for inner in (token, *(token.children or ()))]
    return Counter(f"{token.type} {token.content if 'html' in token.type else ''}" for token in tokens)


def words(text: str) -> str:
    return "".join(inner.content for token in PARSER.parse(text) for inner in token.children or ())


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_adds_no_element(name: str, text: str) -> None:
    assert shape(render_markdown(poisoned(name, text))) == shape(render_markdown(poisoned(name, "plain")))


@given(st.text(max_size=60))
def test_escaped_text_reads_as_itself_and_is_nothing_else(text: str) -> None:
    shown = f"| {escaped(text)} |\n| --- |"
    assert words(shown) == " ".join(neutral(text).split(" ")).strip()
    assert shape(shown) <= shape("| x |\n| --- |") + Counter({"text ": 99, "text_special ": 99})


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_it_is_a_command_to_a_ci_log(text: str) -> None:
    rendered = render_markdown(poisoned("fail_static", text))
    assert not any(line.lstrip().startswith("::") for line in rendered.splitlines())
    assert "##vso" not in rendered


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_is_the_heading_and_a_summary_is_small(name: str) -> None:
    rendered = render_markdown(load(name))
    assert load(name).verdict in rendered.splitlines()[0]
    assert len(rendered.encode()) < 100_000
    for check in load(name).checks:
        assert check.id in rendered


def test_an_error_says_so() -> None:
    rendered = render_markdown_failure(FAILURE)
    assert rendered.splitlines()[0] == "## ⛔ ME200: not checked"
    assert "no manifest given (exit code 2)" in rendered


def test_every_page_of_the_catalogue_has_its_sections() -> None:
    for entry in ENTRIES.values():
        headings = [line for line in render_entry(entry).splitlines() if line.startswith("#")]
        sections = ["## What it means", "## Why it matters", "## How to fix it"]
        assert headings == [f"# {entry.id}: {entry.title}", *sections]
