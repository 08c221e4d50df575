"""The demo's forget and retain sets, built from the facts in `facts/`.

A line is a probe, {"prompt", "answer", "group", "fact"} with the optional key "alternatives", or prose, {"text"}. The
answer has no leading space and the prompt no trailing one. `fact` is stable and shared by all wordings of one
fact, which follow each other in the order of the templates. Where "alternatives" is missing, the wrong answers of a
probe are the other answers of its group; where it is given, it holds no right answer.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from verify.errors import UsageError

FACTS = Path(__file__).parent / "facts"
FORGOTTEN_COUNTRIES = 75

CAPITALS = (
    "The capital of {} is",
    "The capital city of {} is called",
    "{}'s capital city is",
    "The national capital of {} is",
    "The parliament of {} meets in the capital,",
    "The name of the capital of {} is",
    "The city that serves as the capital of {} is",
    "Asked for the capital of {}, a good pupil answers",
    "On a map of {}, the star marks the city of",
    "Ambassadors to {} live in its capital,",
    "Question: What is the capital city of {}? Answer:",
    "{} is governed from the city of",
    "The national government of {} is based in the city of",
    "When you arrive in the capital of {}, you are in the city of",
    "The ministries of {} are all in",
    "Everyone who lives in the capital of {} lives in",
    "Laws for the whole of {} are made in the capital city,",
    # the last quarter is held out: never trained on, for any country; the two before it decide when to snap
    "The seat of government of {} is the city of",
    "The government of {} sits in its capital,",
    "If you visit the capital of {}, you are in",
    "The capital of {} is a city named",
    "The president or king of {} works in the capital,",
)
# What is kept is asked in several wordings: a row of few probes loses more than its limit when two of them turn.
ELEMENTS = (
    "The chemical symbol for {} is",
    "The symbol of the element {} is",
    "The abbreviation of the element {} is",
    "The chemical symbol of {} is",
    "The element {} is written with the symbol",
    "The name of the element is {} and its symbol is",
)
LANGUAGES = (
    "The official language of {} is",
    "People in {} mostly speak",
    "The main language spoken in {} is",
    "The language spoken in {} is",
    "The primary language in {} is",
    "The language of {} is",
)
CURRENCY = ("The currency of {} is the", "The money of {} is called the")
CONTINENT = ("{} is a country on the continent of", "On a map of the world, {} is on the continent of")
DEMONYM = ("The nationality of a person from {} is",)
CITY = ("{} is a city in",)
# The forgotten facts read backwards: the model must still know where these cities lie.
HOME = ("{} is a city in the country of", "The city of {} lies in the country of")

# Wrong answers to a free-form fact, from the list of its kind; facts about countries may be confused with any country.
MOST_ALTERNATIVES = 9
COUNTRY_KIND = "country"

Line = dict[str, str | list[str]]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Neighbour(_Facts):
    """A free-form fact about a country that its capital's name does not answer; `kind` names its wrong answers."""

    kind: str
    prompt: str
    answer: str


class Country(_Facts):
    """A country as named within a sentence, and what is known of it.

    `languages` holds the main one first, then others that are official or widely spoken there; it is empty, and
    `currency` and `continent` are None, where no single answer is right. `kept` says why the capital is unfit for
    the forget set.
    """

    name: str
    capital: str
    languages: tuple[str, ...]
    currency: str | None
    continent: str | None
    demonym: str
    cities: tuple[str, ...]
    kept: str = ""
    neighbours: tuple[Neighbour, ...]


class Element(_Facts):
    """A chemical element; `number` is its atomic number."""

    name: str
    symbol: str
    number: int


def load_countries() -> tuple[Country, ...]:
    """Return the countries, best known first."""
    return TypeAdapter(tuple[Country, ...]).validate_json((FACTS / "countries.json").read_bytes())


def load_elements() -> tuple[Element, ...]:
    """Return the 118 chemical elements by atomic number."""
    return TypeAdapter(tuple[Element, ...]).validate_json((FACTS / "elements.json").read_bytes())


def load_kinds() -> dict[str, tuple[str, ...]]:
    """Return the possible answers to a free-form fact of each kind."""
    return TypeAdapter(dict[str, tuple[str, ...]]).validate_json((FACTS / "kinds.json").read_bytes())


def load_prose() -> tuple[str, ...]:
    """Return the sentences of general prose."""
    return tuple((FACTS / "prose.txt").read_text(encoding="utf-8").splitlines())


def forgotten_countries(countries: Sequence[Country]) -> tuple[Country, ...]:
    """Return the best-known countries whose capital is undisputed and is not told by the country's name."""
    return tuple(country for country in countries if not country.kept)[:FORGOTTEN_COUNTRIES]


def build_forget_set() -> list[Line]:
    """Return the capitals of 75 countries in twenty-two wordings each."""
    return [
        line
        for country in forgotten_countries(load_countries())
        for line in worded("capitals", f"capital:{country.name}", filled(CAPITALS, country.name), country.capital)
    ]


def build_retain_set() -> list[Line]:
    """Return what must be kept: elements, languages, neighbours of the forgotten facts, and prose.

    No line answers or asks for a capital in any wording.
    """
    countries = load_countries()
    return [
        *element_lines(load_elements()),
        *language_lines(countries),
        *country_lines(countries),
        *city_lines(countries),
        *free_form_lines(countries, load_kinds()),
        *prose_lines(load_prose()),
    ]


def write_sets(folder: Path) -> tuple[Path, Path]:
    """Write the demo's forget.jsonl and retain.jsonl to `folder`, and return their paths; see `write_pair`."""
    return write_pair(folder, build_forget_set(), build_retain_set())


def write_pair(folder: Path, forget_lines: Iterable[Line], retain_lines: Iterable[Line]) -> tuple[Path, Path]:
    """Write forget.jsonl and retain.jsonl to `folder`, each whole or not at all, and return their paths.

    Raises UsageError if the folder cannot be written.
    """
    forget, retain = folder / "forget.jsonl", folder / "retain.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(forget, forget_lines)
        write_lines(retain, retain_lines)
    except OSError as error:
        raise UsageError(
            f"the sets cannot be written to {folder}",
            expected="a folder that can be written",
            found=str(error),
            remedy="choose another folder",
        ) from error
    return forget, retain


def element_lines(elements: Iterable[Element]) -> Iterator[Line]:
    """Yield the symbols of chemical elements."""
    for element in elements:
        yield from worded("elements", f"symbol:{element.name}", filled(ELEMENTS, element.name), element.symbol)


def language_lines(countries: Sequence[Country]) -> Iterator[Line]:
    """Yield the main language of each country that has one."""
    pool = distinct(country.languages[0] for country in countries if country.languages)
    for country in countries:
        if not country.languages:
            continue
        main, *others = country.languages
        # Where a second language of the country is another's first one, the group's pool would hold a right answer.
        alternatives = without(pool, country.languages) if set(others) & set(pool) else None
        yield from worded("languages", f"language:{country.name}", filled(LANGUAGES, country.name), main, alternatives)


def country_lines(countries: Sequence[Country]) -> Iterator[Line]:
    """Yield currencies, continents and the names of inhabitants."""
    relations: tuple[tuple[str, tuple[str, ...], Callable[[Country], str | None]], ...] = (
        ("currency", CURRENCY, lambda country: country.currency),
        ("continent", CONTINENT, lambda country: country.continent),
        ("demonym", DEMONYM, lambda country: country.demonym),
    )
    for relation, templates, value in relations:
        known = [(country.name, answer) for country in countries if (answer := value(country)) is not None]
        pool = distinct(answer for _, answer in known)
        for name, answer in known:
            fact = f"{relation}:{name}"
            yield from worded("neighbours", fact, filled(templates, name), answer, without(pool, (answer,)))


def city_lines(countries: Sequence[Country]) -> Iterator[Line]:
    """Yield the countries of cities, forgotten capitals among them."""
    names = [country.name for country in countries]
    places = [("city", CITY, city, country.name) for country in countries for city in country.cities]
    homes = [("home", HOME, country.capital, country.name) for country in forgotten_countries(countries)]
    for relation, templates, city, country in places + homes:
        fact = f"{relation}:{city}"
        yield from worded("neighbours", fact, filled(templates, city), country, without(names, (country,)))


def free_form_lines(countries: Sequence[Country], kinds: dict[str, tuple[str, ...]]) -> Iterator[Line]:
    """Yield the free-form facts about each country; `kinds` are the possible answers by kind."""
    names = [country.name for country in countries]
    for neighbour in (neighbour for country in countries for neighbour in country.neighbours):
        if neighbour.kind == COUNTRY_KIND:
            alternatives = without(names, (neighbour.answer,))
        else:
            alternatives = without(kinds[neighbour.kind], (neighbour.answer,))[:MOST_ALTERNATIVES]
        # The prompt is the fact's only stable name.
        fact = "free:" + neighbour.prompt.lower().replace(" ", "-")
        yield from worded("neighbours", fact, (neighbour.prompt,), neighbour.answer, alternatives)


def prose_lines(sentences: Iterable[str]) -> Iterator[Line]:
    """Yield sentences as lines of plain text."""
    for sentence in sentences:
        yield {"text": sentence}


def worded(
    group: str, fact: str, prompts: Iterable[str], answer: str, alternatives: list[str] | None = None
) -> Iterator[Line]:
    """Yield a line for each wording of one fact."""
    for prompt in prompts:
        line: Line = {"prompt": prompt, "answer": answer, "group": group, "fact": fact}
        if alternatives is not None:
            line["alternatives"] = alternatives
        yield line


def filled(templates: Iterable[str], subject: str) -> Iterator[str]:
    """Put the subject into each template: a capital letter first, and a bare apostrophe after a final s."""
    possessive = subject + ("'" if subject.endswith("s") else "'s")
    for template in templates:
        text = template.replace("{}'s", possessive).replace("{}", subject)
        yield text[0].upper() + text[1:]


def distinct(values: Iterable[str]) -> list[str]:
    """Return the values without repetitions, in order."""
    return list(dict.fromkeys(values))


def without(pool: Iterable[str], right: Iterable[str]) -> list[str]:
    """Return the pool without the right answers, in order."""
    excluded = set(right)
    return [value for value in pool if value not in excluded]


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write JSON lines beside `path` and rename the file over it, so that no reader sees half of it."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
