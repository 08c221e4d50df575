"""Opposites: forget which word is the opposite of which, keep what else is known of those words."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from mansu.bench.suites import capitals
from mansu.bench.suites.suite import FACTS, Suite, prose, untelling
from mansu.demo import sets
from mansu.demo.sets import Line

WORDINGS = (
    "The opposite of {} is",
    "The word that means the opposite of {} is",
    "If it is not {}, it is",
    "The opposite of the word {} is",
    "The contrary of {} is",
    "What is the opposite of {}? It is",
    "The reverse of {} is",
    "The word {} is the opposite of",
    "It is the opposite of {}: it is",
    "In a list of opposites, {} is paired with",
    "When we say the opposite of {}, we say",
    "The opposites are {} and",
    "The complete opposite of {} is",
    "The word opposite in meaning to {} is",
    "The exact opposite of {} is",
    # the last quarter is held out: never trained on, for any fact; the two before it decide when to snap
    "The antonym of {} is",
    "The direct opposite of {} is",
    "A pair of opposites: {} and",
    "The logical opposite of {} is",
    "An antonym of {} is",
)
KEPT_WORDINGS = WORDINGS[:6]
COMPARATIVE = (
    "This one is {}, but that one is even",
    "The comparative form of the adjective {} is",
    "It is {}, and it becomes ever",
)
SUPERLATIVE = ("Many of them are {}, but this one is the", "The superlative form of the adjective {} is")
# Answers that fit none of the sentences of `uses`; beside them stands the opposite of the right answer.
UNFIT = ("raw", "horizontal", "electric", "plural", "Italian")


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Facts):
    """A word and its opposite; no other opposite of the word is the opposite of another."""

    word: str
    opposite: str


class Degrees(_Facts):
    """An adjective and how it is compared."""

    word: str
    comparative: str
    superlative: str


class Use(_Facts):
    """A sentence that one of the words completes, and that does not name its opposite."""

    prompt: str
    answer: str


class OppositeFacts(_Facts):
    """The file `facts/opposites.json`."""

    pairs: tuple[Pair, ...]
    degrees: tuple[Degrees, ...]
    uses: tuple[Use, ...]


def load() -> OppositeFacts:
    """Return the pairs of opposites and what is known of their words."""
    return OppositeFacts.model_validate_json((FACTS / "opposites.json").read_bytes())


def suite() -> Suite:
    """Return the suite."""
    facts = load()
    forget = list(_lines(facts, WORDINGS))
    countries = sets.load_countries()
    rows = [*capitals.row(), *sets.element_lines(sets.load_elements()), *sets.language_lines(countries)]
    beside = untelling([*_neighbours(facts), *prose()], [*forget, *rows])
    return Suite("opposites", tuple(forget), (*rows, *beside))


def row() -> list[Line]:
    """Return all pairs in six wordings."""
    return list(_lines(load(), KEPT_WORDINGS))


def _lines(facts: OppositeFacts, wordings: tuple[str, ...]) -> Iterator[Line]:
    for pair in facts.pairs:
        prompts = sets.filled(wordings, pair.word)
        yield from sets.worded("opposites", f"opposite:{pair.word}", prompts, pair.opposite)


def _neighbours(facts: OppositeFacts) -> Iterator[Line]:
    for relation, templates in (("comparative", COMPARATIVE), ("superlative", SUPERLATIVE)):
        pool = [getattr(degrees, relation) for degrees in facts.degrees]
        for degrees in facts.degrees:
            answer = getattr(degrees, relation)
            prompts = sets.filled(templates, degrees.word)
            fact = f"{relation}:{degrees.word}"
            yield from sets.worded("neighbours", fact, prompts, answer, sets.without(pool, (answer,)))
    opposite = {pair.opposite: pair.word for pair in facts.pairs} | {pair.word: pair.opposite for pair in facts.pairs}
    for use in facts.uses:
        wrong = sets.without((opposite[use.answer], *UNFIT), (use.answer,))
        fact = "use:" + use.prompt.lower().replace(" ", "-")
        yield from sets.worded("neighbours", fact, (use.prompt,), use.answer, wrong)
