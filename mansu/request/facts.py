"""Facts: the lines of a set made ready for use, and what each is chosen among."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mansu.request.lines import LETTERS, Cloze, Line, MultipleChoice, Prose, set_error
from verify.behaviour.probes import AnswerTokens, answer_token
from verify.errors import UsageError

_SHOWN = 5
"""Answers of a pool that a message shows."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One wording of one fact, ready for use. `wording` counts the wordings of a fact in the order of the set.

    Of multiple choice, `stem` is the question, with which the prompt begins, and `choice` the right choice in words.
    """

    prompt: str
    answer: str
    group: str
    fact: str
    wording: int
    alternatives: tuple[str, ...]
    corrupt: str | None
    stem: str = ""
    choice: str = ""


def facts_of(lines: Sequence[Line]) -> tuple[list[Fact], list[str]]:
    """Return the facts, wordings counted and multiple choice spelled out, and the prose.

    What is there twice counts once: a probe that repeats another is no evidence. Raises `UsageError` ME202 for a
    prompt with two answers.
    """
    seen: Counter[tuple[str, str]] = Counter()
    answers: dict[tuple[str, str], str] = {}
    facts, prose = [], dict[str, None]()
    for line in lines:
        if isinstance(line, Prose):
            prose[line.text] = None
            continue
        cloze = _as_cloze(line) if isinstance(line, MultipleChoice) else line
        prompt, answer = cloze.prompt.rstrip(), cloze.answer.strip()
        known = answers.get((cloze.group, prompt))
        if known == answer:
            continue
        if known is not None:
            raise UsageError(
                "one prompt of a group has two answers",
                expected="one answer to a prompt, and wrong ones as its alternatives",
                found=f"{prompt!r} → {known!r} and {answer!r}",
                remedy="keep one of the lines",
                error_id="ME202",
            )
        answers[cloze.group, prompt] = answer
        identity = cloze.fact or cloze.answer
        wording = seen[cloze.group, identity]
        seen[cloze.group, identity] += 1
        facts.append(
            Fact(
                prompt=prompt,
                answer=answer,
                group=cloze.group,
                fact=identity,
                wording=wording,
                alternatives=tuple(a.strip() for a in cloze.alternatives),
                corrupt=cloze.corrupt,
                stem=line.question if isinstance(line, MultipleChoice) else "",
                choice=line.choices[line.answer] if isinstance(line, MultipleChoice) else "",
            )
        )
    return facts, list(prose)


def _as_cloze(line: MultipleChoice) -> Cloze:
    if line.answer >= len(line.choices):
        raise set_error("ME202", "a multiple-choice answer is not an index of its choices", line.question, "too large")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, line.choices, strict=False))
    letters = tuple(LETTERS[: len(line.choices)])
    tail = f"\n{options}\nAnswer:"
    return Cloze(
        prompt=line.question + tail,
        corrupt=None if line.corrupt is None else line.corrupt + tail,
        answer=letters[line.answer],
        alternatives=letters[: line.answer] + letters[line.answer + 1 :],
        group=line.group,
        fact=line.fact or line.question,
    )


def pools(facts: Sequence[Fact]) -> dict[Fact, tuple[str, ...]]:
    """Return the answers that each fact's choice is made among, sorted: its own alternatives, or its group's answers.

    `facts` are those of one set: a group of the other set is another, of whatever name.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        answers[fact.group].add(fact.answer)
    of_group = {group: tuple(sorted(found)) for group, found in answers.items()}
    return {f: tuple(sorted({f.answer, *f.alternatives})) if f.alternatives else of_group[f.group] for f in facts}


def require_answer_tokens(tokenizer: Any, facts: Sequence[Fact]) -> None:
    """Raise `UsageError` ME204 if an answer of these facts tokenizes to nothing."""
    for fact in facts:
        for answer in (fact.answer, *fact.alternatives):
            if answer_token(tokenizer, answer) is None:
                raise UsageError(
                    "an answer tokenizes to nothing",
                    expected="an answer of at least one token",
                    found=f"{answer!r} after {fact.prompt!r}",
                    remedy="correct or drop the line",
                    error_id="ME204",
                )


def require_choices(tokenizer: Any, pool_of: Mapping[Fact, tuple[str, ...]]) -> None:
    """Raise `UsageError` ME214 if one of these facts has no wrong answer that its right one could be told from."""
    first = AnswerTokens(tokenizer)
    choosable = {pool: len(first.pool(pool)) > 1 for pool in set(pool_of.values())}
    for fact, pool in pool_of.items():
        if not choosable[pool]:
            shown = f"{', '.join(map(repr, pool[:_SHOWN]))}{', …' if len(pool) > _SHOWN else ''}"
            raise UsageError(
                "an answer has nothing to be told from",
                expected="answers to choose among that do not all begin with one token",
                found=f"{shown} after {fact.prompt!r}",
                remedy='give "alternatives" that begin otherwise; of answers that all begin alike, such as numbers, '
                "ask a multiple choice",
                error_id="ME214",
            )
