"""What a suite is: a forget set and a retain set in the form that `mansu.request` reads."""

from dataclasses import dataclass
from pathlib import Path

from mansu.demo import sets
from mansu.demo.sets import Line

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
