"""What a suite is: a forget set and a retain set in the form that `mansu.request` reads."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mansu.demo import sets
from mansu.demo.sets import Line

_WORD = re.compile(r"[\w'-]+")
FACTS = Path(__file__).parent.parent / "facts"


@dataclass(frozen=True, slots=True)
class Suite:
    """A kind of knowledge to forget, and what to keep beside it.

    `forget` holds every fact in many wordings; of `retain`, each group is a row of retention: the facts of other
    suites, "neighbours" (other facts about the same subjects), and prose. `read_request` holds out facts and wordings.
    """

    name: str
    forget: tuple[Line, ...]
    retain: tuple[Line, ...]


def prose() -> list[Line]:
    """Return the demo's prose as lines."""
    return list(sets.prose_lines(sets.load_prose()))


def words(text: str) -> frozenset[str]:
    """Return the words of a text, a genitive's ending taken off."""
    return frozenset(word.removesuffix("'s").removesuffix("'") for word in _WORD.findall(text))


def untelling(lines: Iterable[Line], facts: Iterable[Line]) -> list[Line]:
    """Return the lines that do not name subject and answer of one of these facts together.

    A fact is named "relation:subject". Half of what is kept is trained on: a line that told a fact of another row would
    train on that row's test. A subject that tells its own answer (the Czech Republic) is left out of account.
    """
    told = set()
    for fact in facts:
        subject, answer = words(str(fact["fact"]).partition(":")[2]), words(str(fact["answer"]))
        if not answer <= subject:
            told.add(subject | answer)
    return [line for line in lines if not _contains(words(_text(line)), told)]


def _contains(bag: frozenset[str], told: Iterable[frozenset[str]]) -> bool:
    return any(both <= bag for both in told)


def _text(line: Line) -> str:
    return str(line["text"]) if "text" in line else f"{line['prompt']} {line['answer']}"
