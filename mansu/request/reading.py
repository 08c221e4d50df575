"""Reading a request: both sets, checked against each other and split."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mansu.request.facts import Fact, facts_of, pools, require_answer_tokens, require_choices
from mansu.request.lines import read_lines, set_error
from mansu.request.splitting import Split, halves, hold_out
from verify.behaviour.wording import plain
from verify.errors import UsageError


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
    Raises `UsageError` ME201 (missing or empty set, or a retain set without facts), ME202 (malformed line), ME203 (a
    fact in both sets), ME200 (plain text in the forget set).
    """
    forget_lines, forget_sha256 = read_lines(forget, "forget")
    retain_lines, retain_sha256 = read_lines(retain, "retain")
    forget_facts, forget_prose = facts_of(forget_lines)
    retain_facts, prose = facts_of(retain_lines)
    _refuse_prose(forget_prose)
    _require_facts(retain_facts, prose, retain)
    _refuse_shared(forget_facts, retain_facts)
    rng = random.Random(seed)  # noqa: S311  (a split, not a secret)
    shuffled = list(prose)
    rng.shuffle(shuffled)
    half = len(shuffled) // 2
    return Request(
        forget=hold_out(forget_facts, rng, share_of_facts=0.25, share_of_wordings=0.25, share_of_validation=0.1),
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
    lines, _ = read_lines(path, "retain")
    facts, prose = facts_of(lines)
    _require_facts(facts, prose, path)
    return tuple(facts), tuple(prose)


def read_forget(path: Path) -> tuple[tuple[Fact, ...], str]:
    """Read a forget set on its own: all its facts, nothing held out, and the sha256 of the file.

    Raises `UsageError` ME201 (missing or empty set), ME202 (malformed line), ME200 (plain text in it).
    """
    lines, sha256 = read_lines(path, "forget")
    facts, prose = facts_of(lines)
    _refuse_prose(prose)
    return tuple(facts), sha256


def require_tokens(tokenizer: Any, request: Request) -> None:
    """Raise `UsageError` ME204 if an answer tokenizes to nothing, ME214 if it could be told from no other.

    A kept fact that is not held out needs none: it is trained to stay as it is, and never asked.
    """
    forget, retain = request.forget.every(), request.retain.every()
    require_answer_tokens(tokenizer, (*forget, *retain))
    asked = set(request.retain.held_out_facts)
    require_choices(tokenizer, pools(forget))
    require_choices(tokenizer, {fact: pool for fact, pool in pools(retain).items() if fact in asked})


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


def _require_facts(facts: Sequence[Fact], prose: Sequence[str], path: Path) -> None:
    if not facts:
        raise set_error("ME201", "the retain set has no facts", str(path), f"{len(prose)} lines of plain text")


def _refuse_prose(prose: Sequence[str]) -> None:
    if prose:
        raise UsageError(
            "the forget set holds plain text",
            expected='lines of {"prompt", "answer"} or {"question", "choices", "answer"}',
            found=f"{len(prose)} lines of {{'text'}}",
            remedy="plain text belongs in the retain set; write what is to be forgotten as prompts and answers",
        )


def _refuse_shared(forget: Sequence[Fact], retain: Sequence[Fact]) -> None:
    kept = {(plain(fact.prompt), plain(fact.answer)) for fact in retain}
    names = {fact.fact for fact in retain}
    for fact in forget:
        # a fact without a name is called by its answer, which facts of other kinds may share
        named = fact.fact != fact.answer and fact.fact in names
        if named or (plain(fact.prompt), plain(fact.answer)) in kept:
            raise UsageError(
                "the forget and retain sets share a fact",
                expected="no fact in both sets",
                found=f"{fact.prompt!r} → {fact.answer!r}",
                remedy="take it out of one of the sets: it cannot be both forgotten and kept",
                error_id="ME203",
            )
