"""Held-out probes: the files under `probes/` of a certificate, and what they become as tokens.

`choices.jsonl`: `{"axis", "row", "prompt", "answer", "pool"}`; `pools.json`: pool name → answers to choose among;
`text.jsonl`: `{"row", "text"}`; `pairs.jsonl`: `{"set", "clean", "corrupt", "answer", "pool"}` for CAD.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from verify.behaviour.inert import distinct
from verify.circuits import Pair
from verify.contract.schema import Schema
from verify.errors import ArtefactError

CHOICES, POOLS, TEXT, PAIRS = "choices.jsonl", "pools.json", "text.jsonl", "pairs.jsonl"


class Choice(Schema):
    """One question with one right answer among a pool."""

    axis: Literal["forgetting", "retention"]
    row: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    pool: str


class Text(Schema):
    """One piece of prose for perplexity."""

    row: str = Field(min_length=1)
    text: str = Field(min_length=1)


class PairProbe(Schema):
    """A clean prompt and its corrupt partner, of equal token length, for attribution."""

    set: Literal["forget", "retain"]
    clean: str
    corrupt: str
    answer: str
    pool: str


@dataclass(frozen=True, slots=True)
class Probes:
    """Everything a full check measures on."""

    choices: tuple[Choice, ...]
    texts: tuple[Text, ...]
    pairs: tuple[PairProbe, ...]
    pools: Mapping[str, tuple[str, ...]]


def dump(probes: Probes) -> dict[str, bytes]:
    """Return the files of a probe set by name, deterministic."""
    pools = {name: list(answers) for name, answers in probes.pools.items()}
    return {
        CHOICES: _lines(probes.choices),
        TEXT: _lines(probes.texts),
        PAIRS: _lines(probes.pairs),
        POOLS: (json.dumps(pools, ensure_ascii=False, indent=0) + "\n").encode(),
    }


def parse(files: Mapping[str, bytes]) -> Probes:
    """Parse the files of a probe set.

    Raises `ArtefactError` MV301 for a missing file, a malformed line, an answer that is not in its pool, or one name
    for a row of retention questions and one of prose.
    """
    missing = {CHOICES, POOLS, TEXT, PAIRS} - files.keys()
    if missing:
        raise ArtefactError(
            "MV301",
            "probe files are missing",
            expected=f"{CHOICES}, {POOLS}, {TEXT} and {PAIRS} under probes/",
            found=f"no {', '.join(sorted(missing))}",
            remedy="ask the producer for the whole certificate folder",
        )
    probes = Probes(
        choices=_parse_lines(Choice, CHOICES, files[CHOICES]),
        texts=_parse_lines(Text, TEXT, files[TEXT]),
        pairs=_parse_lines(PairProbe, PAIRS, files[PAIRS]),
        pools=_parse_pools(files[POOLS]),
    )
    both = {x.row for x in probes.choices if x.axis == "retention"} & {text.row for text in probes.texts}
    if both:  # a claim names axis and row: it could be about either
        raise ArtefactError(
            "MV301",
            f"probes/{TEXT}: a row of prose has the name of a row of questions",
            expected="names that differ",
            found=ascii(min(both)),
            remedy="the probes are not usable as evidence: ask the producer for correct ones",
        )
    named = [(CHOICES, probe.answer, probe.pool) for probe in probes.choices]
    named += [(PAIRS, probe.answer, probe.pool) for probe in probes.pairs]
    for file, answer, pool in named:
        if answer not in probes.pools.get(pool, ()):
            raise ArtefactError(
                "MV301",
                f"probes/{file}: an answer is not in its pool",
                expected="every answer among the answers to choose from",
                found=f"{answer!a} not in pool {pool!a}",
                remedy="the probes are not usable as evidence: ask the producer for correct ones",
            )
    return probes


def answer_token(tokenizer: Any, answer: str) -> int | None:
    """Return the first token of an answer that follows a prompt and a space, or None if it tokenizes to nothing.

    The choice is decided at this token; answers that share it count as one (which can only raise accuracy).
    """
    # a stand-in for the prompt: some tokenizers treat the start of a text differently
    context = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a " + answer.strip(), add_special_tokens=False)["input_ids"]
    rest: list[int] = whole[len(context) :]
    return rest[0] if rest and answer.strip() else None


class AnswerTokens:
    """First tokens of answers, each tokenized once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def __call__(self, answer: str) -> int:
        """Return the answer's first token; raises `ArtefactError` MV301 if there is none."""
        if answer not in self._known:
            token = answer_token(self._tokenizer, answer)
            if token is None:
                raise ArtefactError(
                    "MV301",
                    f"probes/{POOLS}: an answer tokenizes to nothing",
                    expected="an answer of at least one token",
                    found=ascii(answer),
                    remedy="the probes are not usable as evidence with this tokenizer",
                )
            self._known[answer] = token
        return self._known[answer]

    def pool(self, answers: Iterable[str]) -> tuple[int, ...]:
        """Return the distinct first tokens of a pool, sorted."""
        return tuple(sorted({self(answer) for answer in answers}))


def token_pairs(tokenizer: Any, probes: Probes, which: Literal["forget", "retain"]) -> list[Pair]:
    """Return the attribution pairs of one set; a pair whose lengths differ in tokens is refused (MV301)."""
    first = AnswerTokens(tokenizer)
    found = []
    for pair in probes.pairs:
        if pair.set != which:
            continue
        clean, corrupt = (tuple(tokenizer(text)["input_ids"]) for text in (pair.clean, pair.corrupt))
        if len(clean) != len(corrupt) or clean == corrupt:
            raise ArtefactError(
                "MV301",
                f"probes/{PAIRS}: a pair's clean and corrupt prompts do not match in length",
                expected="equal token lengths and different tokens",
                found=f"{len(clean)} and {len(corrupt)} tokens: {pair.clean!a} / {pair.corrupt!a}",
                remedy="the probes are not usable as evidence with this tokenizer",
            )
        answer = first(pair.answer)
        alternatives = tuple(t for t in first.pool(probes.pools[pair.pool]) if t != answer)
        found.append(Pair(clean=clean, corrupt=corrupt, answer=answer, alternatives=alternatives))
    return found


_Line = TypeVar("_Line", bound=Schema)


def _lines(items: Iterable[Schema]) -> bytes:
    return "".join(item.model_dump_json() + "\n" for item in items).encode()


def _parse_lines(kind: type[_Line], name: str, data: bytes) -> tuple[_Line, ...]:
    items = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            _require_one_reading(line)
            items.append(kind.model_validate_json(line))
        except (RecursionError, ValueError) as error:
            raise ArtefactError(
                "MV301",
                f"probes/{name} line {number} is malformed",
                expected="one JSON object a line, as the probe format says",
                found=_first(error),
                remedy="ask the producer for the whole certificate folder",
            ) from error
    return tuple(items)


class _Pools(Schema):
    pools: dict[str, tuple[str, ...]]


def _parse_pools(data: bytes) -> Mapping[str, tuple[str, ...]]:
    try:
        _require_one_reading(data)
        return _Pools.model_validate_json(b'{"pools":' + data + b"}").pools
    except (RecursionError, ValueError) as error:
        raise ArtefactError(
            "MV301",
            f"probes/{POOLS} is malformed",
            expected="a JSON object from pool name to a list of answers",
            found=_first(error),
            remedy="ask the producer for the whole certificate folder",
        ) from error


def _require_one_reading(data: bytes) -> None:
    """Raise ValueError unless `data` is one JSON value in UTF-8 whose objects give each key once."""
    json.loads(data.decode("utf-8"), object_pairs_hook=distinct)


def _first(error: Exception) -> str:
    """Return the first thing that is wrong, in ASCII: it may quote the probes."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(ascii(part) for part in first['loc']) or 'line'}: {first['msg']!a}"
    return ascii(str(error))
