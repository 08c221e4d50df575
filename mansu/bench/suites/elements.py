"""Elements: forget the symbols of 66 chemical elements, keep what else is known of them.

The elements are those whose symbol SmolLM2-135M-Instruct gave in at least two of four trial wordings.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mansu.bench.suites import capitals, opposites
from mansu.bench.suites.suite import FACTS, Suite, prose, untelling, words
from mansu.demo import sets
from mansu.demo.sets import Line

WORDINGS = (
    "The chemical symbol for {} is",
    "In the periodic table, {} has the symbol",
    "The chemical symbol of {} is",
    "The element {} is written with the symbol",
    "In a chemical formula, {} is written as",
    "Chemists abbreviate {} as",
    "The abbreviation of the element {} is",
    "What is the chemical symbol for {}? It is",
    "The element {} has the chemical symbol",
    "An atom of {} is denoted by",
    "The name of the element is {} and its symbol is",
    "The element called {} has the abbreviation",
    "The symbol of the element {} is",
    "The symbol that chemists use for {} is",
    "The international symbol for the element {} is",
    # the last quarter is held out: never trained on, for any fact; the two before it decide when to snap
    "The atomic symbol of {} is",
    "In chemical formulas, {} is represented by the symbol",
    "If a formula contains {}, you will see the symbol",
    "The element symbol of {} is",
    "Scientists use the symbol for {}, which is",
)
STATE = ("At room temperature, {} is a", "Under normal conditions, {} is a")
KIND = ("In chemistry, {} is classified as a", "Chemists classify {} as a")
FAMILY = ("In the periodic table, {} belongs to the", "The element {} is a member of the")


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
    rows = [*capitals.row(), *sets.language_lines(sets.load_countries()), *opposites.row()]
    beside = untelling([*_neighbours(facts), *prose()], [*forget, *rows])
    return Suite("elements", tuple(forget), (*rows, *beside))


def _neighbours(facts: ElementFacts) -> Iterator[Line]:
    relations = (("state", STATE), ("kind", KIND), ("family", FAMILY))
    for relation, templates in relations:
        known = [(element.name, getattr(element, relation)) for element in facts.elements]
        pool = sets.distinct(value for _, value in known if value)
        for name, value in known:
            if value:
                prompts = sets.filled(templates, name)
                fact = f"{relation}:{name}"
                yield from sets.worded("neighbours", fact, prompts, value, sets.without(pool, (value,)))
    yield from _uses(facts.free)


def _uses(uses: Sequence[Use]) -> Iterator[Line]:
    pool = sets.distinct(use.answer for use in uses)
    for use in uses:
        # an element that the prompt names is no answer one could take it for
        named = [name for name in pool if name in words(use.prompt)]
        wrong = sets.without(pool, (use.answer, *use.also, *named))
        fact = "use:" + use.prompt.lower().replace(" ", "-")
        yield from sets.worded("neighbours", fact, (use.prompt,), use.answer, wrong)
