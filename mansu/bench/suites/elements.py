"""Elements: forget the symbols of 66 chemical elements, keep what else is known of them.

The elements are those whose symbol SmolLM2-135M-Instruct gave in at least two of four trial wordings.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mansu.bench.suites import capitals, opposites
from mansu.bench.suites.suite import FACTS, Suite, prose
from mansu.demo import sets
from mansu.demo.sets import Line

WORDINGS = (
    "The chemical symbol for {} is",
    "In the periodic table, {} has the symbol",
)
STATE = "At room temperature, {} is a"
KIND = "In chemistry, {} is classified as a"
FAMILY = "In the periodic table, {} belongs to the"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Known(_Facts):
    """What is known of an element besides its symbol; None where chemists disagree or there is no single answer."""

    name: str
    state: Literal["solid", "liquid", "gas"]
    kind: Literal["metal", "nonmetal", "metalloid"] | None
    family: str | None


class Use(_Facts):
    """A free-form fact that an element's name answers; `also` are elements that would be right, or nearly, too."""

    prompt: str
    answer: str
    also: tuple[str, ...] = ()


class ElementFacts(_Facts):
    """The file `facts/elements.json`."""

    elements: tuple[Known, ...]
    free: tuple[Use, ...]


def load() -> ElementFacts:
    """Return the facts about the elements that are forgotten."""
    return ElementFacts.model_validate_json((FACTS / "elements.json").read_bytes())


def suite() -> Suite:
    """Return the suite; the symbols come from the demo's periodic table."""
    facts = load()
    symbols = {element.name: element.symbol for element in sets.load_elements()}
    forget = [
        line
        for element in facts.elements
        for line in sets.worded(
            "elements", f"symbol:{element.name}", sets.filled(WORDINGS, element.name), symbols[element.name]
        )
    ]
    countries = sets.load_countries()
    retain = [*capitals.row(), *sets.language_lines(countries), *opposites.row(), *_neighbours(facts), *prose()]
    return Suite("elements", tuple(forget), tuple(retain))


def _neighbours(facts: ElementFacts) -> Iterator[Line]:
    relations = (("state", STATE), ("kind", KIND), ("family", FAMILY))
    for relation, template in relations:
        known = [(element.name, getattr(element, relation)) for element in facts.elements]
        pool = sets.distinct(value for _, value in known if value)
        for name, value in known:
            if value:
                prompts = sets.filled((template,), name)
                fact = f"{relation}:{name}"
                yield from sets.worded("neighbours", fact, prompts, value, sets.without(pool, (value,)))
    yield from _uses(facts.free)


def _uses(uses: Sequence[Use]) -> Iterator[Line]:
    pool = sets.distinct(use.answer for use in uses)
    for use in uses:
        # an element that the prompt names is no answer one could take it for
        named = [name for name in pool if name in use.prompt]
        wrong = sets.without(pool, (use.answer, *use.also, *named))
        fact = "use:" + use.prompt.lower().replace(" ", "-")
        yield from sets.worded("neighbours", fact, (use.prompt,), use.answer, wrong)
