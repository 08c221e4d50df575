"""The request: what to forget, what to keep, and the split into what is trained on and what is only measured."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from verify.behaviour.probes import answer_token
from verify.contract.schema import Schema
from verify.errors import UsageError

_LETTERS = "ABCDEFGHIJ"


class Cloze(Schema):
    """A prompt that its answer continues. `fact` names what all wordings of one fact share; `group` is its kind."""

    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    alternatives: tuple[str, ...] = ()
    corrupt: str | None = None
    group: str = "facts"
    fact: str | None = None


class MultipleChoice(Schema):
    """A question with lettered choices; `answer` is the index of the right one.

    `corrupt` is another question of the same token length; asked with these choices, none of them is known for right.
    """

    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2, max_length=len(_LETTERS))
    answer: int = Field(ge=0)
    corrupt: str | None = None
    group: str = "questions"
    fact: str | None = None


class Prose(Schema):
    """Plain text to keep modelling as well as before."""

    text: str = Field(min_length=1)


Line: TypeAlias = Cloze | MultipleChoice | Prose
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


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


@dataclass(frozen=True, slots=True)
class Split:
    """Facts to train on and facts to measure on; no wording, and for `held_out_facts` no fact, is in both.

    `validation` are wordings that are neither trained on nor measured in the certificate: they tell when to stop.
    """

    train: tuple[Fact, ...]
    validation: tuple[Fact, ...]
    held_out_wordings: tuple[Fact, ...]
    held_out_facts: tuple[Fact, ...]

    def every(self) -> tuple[Fact, ...]:
        """Return all facts."""
        return (*self.train, *self.validation, *self.held_out_wordings, *self.held_out_facts)


@dataclass(frozen=True, slots=True)
class Request:
    """A forget set, a retain set and prose, split; with commitments (sha256 of the files) for the manifest."""

    forget: Split
    retain: Split
    prose: tuple[str, ...]
    prose_held_out: tuple[str, ...]
    forget_sha256: str
    retain_sha256: str
    forget_lines: int
    retain_lines: int


def read_request(forget: Path, retain: Path, *, seed: int) -> Request:
    """Read both sets and split them.

    Forgetting: a quarter of the facts is held out whole; of the others, the last quarter of the wordings, and the tenth
    before it is set aside for validation.
    Retention: half of each group's facts, and half of the prose, is held out whole.
    Raises `UsageError` ME201 (missing or empty set), ME202 (malformed line), ME203 (a fact in both sets).
    """
    forget_lines, forget_sha256 = _read(forget, "forget")
    retain_lines, retain_sha256 = _read(retain, "retain")
    forget_facts, forget_prose = _facts(forget_lines)
    retain_facts, prose = _facts(retain_lines)
    _refuse_prose(forget_prose)
    _refuse_shared(forget_facts, retain_facts)
    rng = random.Random(seed)  # noqa: S311  (a split, not a secret)
    shuffled = list(prose)
    rng.shuffle(shuffled)
    half = len(shuffled) // 2
    return Request(
        forget=_split(forget_facts, rng, share_of_facts=0.25, share_of_wordings=0.25, share_of_validation=0.1),
        retain=halves(retain_facts, rng),
        prose=tuple(shuffled[:half]),
        prose_held_out=tuple(shuffled[half:]),
        forget_sha256=forget_sha256,
        retain_sha256=retain_sha256,
        forget_lines=len(forget_lines),
        retain_lines=len(retain_lines),
    )


def read_retain(path: Path) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Read a retain set on its own: all its facts and all its prose, nothing held out.

    Raises `UsageError` ME201 (missing or empty set, or one without facts), ME202 (malformed line).
    """
    lines, _ = _read(path, "retain")
    facts, prose = _facts(lines)
    if not facts:
        raise _set_error("ME201", "the retain set has no facts", str(path), f"{len(prose)} lines of plain text")
    return tuple(facts), tuple(prose)


def read_forget(path: Path) -> tuple[tuple[Fact, ...], str]:
    """Read a forget set on its own: all its facts, nothing held out, and the sha256 of the file.

    Raises `UsageError` ME201 (missing or empty set), ME202 (malformed line), ME200 (plain text in it).
    """
    lines, sha256 = _read(path, "forget")
    facts, prose = _facts(lines)
    _refuse_prose(prose)
    return tuple(facts), sha256


def _refuse_prose(prose: Sequence[str]) -> None:
    if prose:
        raise UsageError(
            "the forget set holds plain text",
            expected='lines of {"prompt", "answer"} or {"question", "choices", "answer"}',
            found=f"{len(prose)} lines of {{'text'}}",
            remedy="plain text belongs in the retain set; write what is to be forgotten as prompts and answers",
        )


def _read(path: Path, which: str) -> tuple[list[Line], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _set_error(
            "ME201", f"the {which} set cannot be read", str(path), error.strerror or "unreadable"
        ) from error
    lines = []
    for number, raw in enumerate(data.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            lines.append(_LINE.validate_python(json.loads(raw), strict=False))
        except (ValueError, ValidationError) as error:
            raise _set_error("ME202", f"{which} set, line {number} is malformed", str(path), _first(error)) from error
    if not lines:
        raise _set_error("ME201", f"the {which} set is empty", str(path), "no lines")
    return lines, hashlib.sha256(data).hexdigest()


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return f"not JSON: {error}"


def _set_error(identity: str, message: str, path: str, found: str) -> UsageError:
    return UsageError(
        message,
        expected='JSON lines such as {"prompt": "The capital of France is", "answer": "Paris"}',
        found=f"{found} ({path})",
        remedy="correct the file; README.md describes the three kinds of lines",
        error_id=identity,
    )


def _facts(lines: Sequence[Line]) -> tuple[list[Fact], list[str]]:
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
        raise _set_error("ME202", "a multiple-choice answer is not an index of its choices", line.question, "too large")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, line.choices, strict=False))
    letters = tuple(_LETTERS[: len(line.choices)])
    tail = f"\n{options}\nAnswer:"
    return Cloze(
        prompt=line.question + tail,
        corrupt=None if line.corrupt is None else line.corrupt + tail,
        answer=letters[line.answer],
        alternatives=letters[: line.answer] + letters[line.answer + 1 :],
        group=line.group,
        fact=line.fact or line.question,
    )


def _refuse_shared(forget: Sequence[Fact], retain: Sequence[Fact]) -> None:
    kept = {(_folded(fact.prompt), _folded(fact.answer)) for fact in retain}
    names = {fact.fact for fact in retain}
    for fact in forget:
        # a fact without a name is called by its answer, which facts of other kinds may share
        named = fact.fact != fact.answer and fact.fact in names
        if named or (_folded(fact.prompt), _folded(fact.answer)) in kept:
            raise UsageError(
                "the forget and retain sets share a fact",
                expected="no fact in both sets",
                found=f"{fact.prompt!r} → {fact.answer!r}",
                remedy="take it out of one of the sets: it cannot be both forgotten and kept",
                error_id="ME203",
            )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def halves(facts: Sequence[Fact], rng: random.Random) -> Split:
    """Hold out half of each group's facts whole, as of a retain set."""
    return _split(facts, rng, share_of_facts=0.5, share_of_wordings=0.0, share_of_validation=0.0)


def _split(
    facts: Sequence[Fact],
    rng: random.Random,
    *,
    share_of_facts: float,
    share_of_wordings: float,
    share_of_validation: float,
) -> Split:
    """Hold out whole facts per group, and of the facts that stay the last wordings, validation before measurement."""
    groups: dict[str, dict[str, list[Fact]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        groups[fact.group][fact.fact].append(fact)
    train: list[Fact] = []
    validation: list[Fact] = []
    wordings: list[Fact] = []
    held_out: list[Fact] = []
    for by_fact in groups.values():
        names = sorted(by_fact)
        rng.shuffle(names)
        whole = round(share_of_facts * len(names))
        for name in names[:whole]:
            held_out.extend(by_fact[name])
        for name in names[whole:]:
            lines = by_fact[name]
            measured = len(lines) - int(share_of_wordings * len(lines))
            trained = measured - int(share_of_validation * len(lines))
            train.extend(lines[:trained])
            validation.extend(lines[trained:measured])
            wordings.extend(lines[measured:])
    return Split(tuple(train), tuple(validation), tuple(wordings), tuple(held_out))


def pools(facts: Sequence[Fact]) -> dict[tuple[str, str, int], tuple[str, ...]]:
    """Return the answers that each fact's choice is made among: its own alternatives, or all answers of its group."""
    by_group: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        by_group[fact.group].add(fact.answer)
    return {
        (f.group, f.fact, f.wording): tuple(sorted({f.answer, *f.alternatives}))
        if f.alternatives
        else tuple(sorted(by_group[f.group]))
        for f in facts
    }


def require_tokens(tokenizer: Any, request: Request) -> None:
    """Raise `UsageError` ME204 if an answer of the request tokenizes to nothing."""
    require_answer_tokens(tokenizer, (*request.forget.every(), *request.retain.every()))


def require_held_out(request: Request) -> None:
    """Raise `UsageError` ME213 if nothing of the forget set is left to measure forgetting on."""
    if not request.forget.held_out_wordings and not request.forget.held_out_facts:
        raise UsageError(
            "the forget set leaves nothing to measure on",
            expected="at least three facts, or four wordings of one: a quarter is held out",
            found=f"{len(request.forget.train)} prompts to train on, none held out",
            remedy="write more facts or more wordings; a verdict needs 100 held-out probes",
            error_id="ME213",
        )


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
