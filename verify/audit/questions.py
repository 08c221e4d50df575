"""The sets that an audit measures on: JSON lines in the engine's forms, all of them asked, as `Probes`.

A line is {"prompt", "answer"}, optionally with "alternatives", "corrupt", "group" and "fact"; a multiple choice
{"question", "choices", "answer"}; or, in the retain set, {"text"}. Nothing is held out: the caller chose the questions.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from verify.artefact import read_regular, shown
from verify.behaviour.inert import distinct
from verify.behaviour.probes import CHOICES, PAIRS, POOLS, TEXT, AnswerTokens, Choice, PairProbe, Probes, Text, parse
from verify.contract.schema import Schema
from verify.errors import ArtefactError, UsageError

LARGEST_SET = 256 * 1024 * 1024
_LETTERS = "ABCDEFGHIJ"
_FORM = 'JSON lines such as {"prompt": "The capital of France is", "answer": "Paris"}'

Set = Literal["forget", "retain"]
_AXES: dict[Set, Literal["forgetting", "retention"]] = {"forget": "forgetting", "retain": "retention"}


class _Cloze(Schema):
    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    alternatives: tuple[str, ...] = ()
    corrupt: str | None = None
    group: str = Field(default="facts", min_length=1)
    fact: str | None = None


class _MultipleChoice(Schema):
    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2, max_length=len(_LETTERS))
    answer: int = Field(ge=0)
    corrupt: str | None = None
    group: str = Field(default="questions", min_length=1)
    fact: str | None = None


class _Prose(Schema):
    text: str = Field(min_length=1)


_LINE: TypeAdapter[_Cloze | _MultipleChoice | _Prose] = TypeAdapter(_Cloze | _MultipleChoice | _Prose)


@dataclass(slots=True)
class _Read:
    """What the lines come to, in order; pools by their answers, so that equal ones share a name."""

    choices: list[Choice] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    pairs: list[PairProbe] = field(default_factory=list)
    pools: dict[tuple[str, ...], str] = field(default_factory=dict)

    def pool(self, answers: set[str]) -> str:
        return self.pools.setdefault(tuple(sorted(answers)), f"p{len(self.pools)}")


def read_sets(forget: Path | None, retain: Path | None) -> Probes:
    """Read one set or both. Raises UsageError ME294 for a set that is missing, empty or malformed."""
    read = _Read()
    for path, which in ((forget, "forget"), (retain, "retain")):
        if path is not None:
            _take(read, path, which)  # type: ignore[arg-type]  # the literals above
    return Probes(tuple(read.choices), tuple(read.texts), tuple(read.pairs), {n: p for p, n in read.pools.items()})


def read_probes(folder: Path) -> Probes:
    """Read the four files of a probe set (docs/policy.md); UsageError ME294 where they cannot be used."""
    if not folder.is_dir():
        raise _refused("--probes: there is no such folder", "a folder of probes", str(folder))
    try:
        return parse(
            {name: read_regular(name, root=folder, limit=LARGEST_SET) for name in (CHOICES, PAIRS, POOLS, TEXT)}
        )
    except ArtefactError as error:
        raise _refused(f"--probes: {error.message}", error.expected, error.found) from error


def _take(read: _Read, path: Path, which: Set) -> None:
    lines = dict.fromkeys(_lines(path, which))  # a probe that repeats another is no evidence
    if not lines:
        raise _refused(f"the {which} set is empty", _FORM, str(path))
    clozes = [line for line in lines if isinstance(line, _Cloze)]
    prose = [line for line in lines if isinstance(line, _Prose)]
    if which == "forget" and prose:
        raise _refused("the forget set holds plain text", _FORM, f"{len(prose)} lines of text in {path}")
    if not clozes and which == "forget":
        raise _refused(f"the {which} set has no questions", _FORM, str(path))
    answers: dict[str, set[str]] = defaultdict(set)
    for line in clozes:
        answers[line.group].add(line.answer)
    for line in clozes:
        pool = read.pool({line.answer, *line.alternatives} if line.alternatives else answers[line.group])
        read.choices.append(
            Choice(axis=_AXES[which], row=line.group, prompt=line.prompt, answer=line.answer, pool=pool)
        )
        if line.corrupt is not None:
            read.pairs.append(
                PairProbe(set=which, clean=line.prompt, corrupt=line.corrupt, answer=line.answer, pool=pool)
            )
    read.texts += [Text(row="prose", text=line.text) for line in prose]


def _lines(path: Path, which: Set) -> Iterator[_Cloze | _Prose]:
    for number, raw in enumerate(_content(path, which).splitlines(), 1):
        if not raw.strip():
            continue
        try:
            json.loads(raw.decode("utf-8"), object_pairs_hook=distinct)
            line = _LINE.validate_json(raw)
        except (RecursionError, ValueError) as error:
            raise _refused(f"{which} set, line {number} is malformed", _FORM, _first(error)) from error
        if isinstance(line, _MultipleChoice):
            if line.answer >= len(line.choices):
                raise _refused(f"{which} set, line {number}: no such choice", "the index of a choice", str(line.answer))
            yield _as_cloze(line)
        elif isinstance(line, _Cloze):
            stripped = tuple(word.strip() for word in line.alternatives)
            yield line.model_copy(
                update={"prompt": line.prompt.rstrip(), "answer": line.answer.strip(), "alternatives": stripped}
            )
        else:
            yield line


def _content(path: Path, which: Set) -> bytes:
    try:
        if path.stat().st_size > LARGEST_SET:
            raise _refused(f"the {which} set is too large", f"at most {LARGEST_SET:,} bytes", str(path))
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"the {which} set cannot be read", _FORM, f"{error.strerror} ({path})") from error


def _as_cloze(line: _MultipleChoice) -> _Cloze:
    """Spell a multiple choice out as the engine does: lettered choices, and the letter as its answer."""
    letters = _LETTERS[: len(line.choices)]
    tail = "\n" + "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, line.choices, strict=True))
    return _Cloze(
        prompt=f"{line.question}{tail}\nAnswer:",
        answer=letters[line.answer],
        alternatives=tuple(letter for letter in letters if letter != letters[line.answer]),
        corrupt=None if line.corrupt is None else f"{line.corrupt}{tail}\nAnswer:",
        group=line.group,
    )


def usable_pairs(probes: Probes, tokenizer: Any) -> tuple[Probes, int]:
    """Return the probes with those pairs only that can be attributed, and how many were left out.

    A pair's prompts must differ and have one token length, and its answer another first token than some alternative.
    """
    first = AnswerTokens(tokenizer)

    def usable(pair: PairProbe) -> bool:
        clean, corrupt = (tokenizer(text)["input_ids"] for text in (pair.clean, pair.corrupt))
        return len(clean) == len(corrupt) and clean != corrupt and len(first.pool(probes.pools[pair.pool])) > 1

    kept: Sequence[PairProbe] = [pair for pair in dict.fromkeys(probes.pairs) if usable(pair)]
    return Probes(probes.choices, probes.texts, tuple(kept), probes.pools), len(probes.pairs) - len(kept)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return shown(error.errors()[0]["msg"])
    return shown(str(error))


def _refused(message: str, expected: str, found: str) -> UsageError:
    return UsageError(
        message,
        expected=expected,
        found=found,
        remedy="correct the set; docs/audit.md has its forms",
        error_id="ME294",
    )
