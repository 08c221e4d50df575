"""Answered examples before a prompt: which, how many, and that nothing else changes."""

import random

import certificates as c
import requests_tiny as r
from hypothesis import given
from hypothesis import strategies as st
from tiny_baselines import prompts

from mansu.data.contexts import MOST, Contexts, contexts
from mansu.data.examples import Prompts
from mansu.request import Fact


def facts() -> list[Fact]:
    return [
        Fact(str(line["prompt"]), str(line["answer"]), "capitals", str(line["fact"]), 0, (), None)
        for line in r.forget_lines()[::4]
    ]


def asked() -> Prompts:
    return prompts([c.prompt("capital", name) for name in c.COUNTRIES[:20]], c.capital, c.CAPITALS)


def test_no_share_or_no_facts_is_no_context() -> None:
    assert contexts(c.tokenizer(), facts(), 0.0) is None
    assert contexts(c.tokenizer(), [], 0.5) is None


@given(share=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_prompts_end_as_they_did_and_no_example_has_their_answer(share: float, seed: int) -> None:
    made = contexts(c.tokenizer(), facts(), share)
    assert made is not None
    before, after = asked(), made.before(asked(), random.Random(seed))
    assert (after.answers, after.pools) == (before.answers, before.pools)
    lines = dict(zip(made.lines, made.answers, strict=True))
    for old, new, answer in zip(before.ids, after.ids, before.answers, strict=True):
        assert new[len(new) - len(old) :] == old
        assert answer not in [lines[line] for line in _lines_of(new[: len(new) - len(old)], made)]


def test_all_prompts_get_one_to_four_examples_at_share_one() -> None:
    made = contexts(c.tokenizer(), facts(), 1.0)
    assert made is not None
    after = made.before(asked(), random.Random(0))
    counts = {len(_lines_of(new[: len(new) - len(old)], made)) for old, new in zip(asked().ids, after.ids, strict=True)}
    assert counts == set(range(1, MOST + 1))


def test_what_stands_before_every_text_stays_first() -> None:
    made = Contexts(lines=((5, 6),), answers=(9,), start=(1,), share=1.0)
    after = made.before(Prompts(((1, 7, 8),), (3,), ((3, 4),)), random.Random(0))
    assert after.ids == ((1, 5, 6, 7, 8),)


def _lines_of(tokens: tuple[int, ...], made: Contexts) -> list[tuple[int, ...]]:
    """Cut tokens into the lines they consist of; all lines of these facts have distinct beginnings or lengths."""
    found = []
    rest = tokens
    while rest:
        line = next(line for line in made.lines if rest[: len(line)] == line)
        found.append(line)
        rest = rest[len(line) :]
    return found
