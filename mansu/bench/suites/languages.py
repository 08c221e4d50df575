"""Languages: forget which language is spoken where, keep what else is known of those countries.

Forgotten are countries with one language, at most four of each language: otherwise always answering "Spanish" would be
far above chance.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from mansu.bench.suites import capitals, opposites
from mansu.bench.suites.suite import Suite, prose
from mansu.demo import sets
from mansu.demo.sets import Country, Line

MOST_OF_ONE_LANGUAGE = 4
WORDINGS = (
    "The official language of {} is",
    "The main language spoken in {} is",
)


def forgotten(countries: Sequence[Country]) -> tuple[Country, ...]:
    """Return the countries with exactly one language, best known first, at most four of each."""
    seen: Counter[str] = Counter()
    chosen = []
    for country in countries:
        if len(country.languages) == 1:
            seen[country.languages[0]] += 1
            if seen[country.languages[0]] <= MOST_OF_ONE_LANGUAGE:
                chosen.append(country)
    return tuple(chosen)


def suite() -> Suite:
    """Return the suite."""
    countries = sets.load_countries()
    forget = [
        line
        for country in forgotten(countries)
        for line in sets.worded(
            "languages", f"language:{country.name}", sets.filled(WORDINGS, country.name), country.languages[0]
        )
    ]
    retain = [*capitals.row(), *sets.element_lines(sets.load_elements()), *opposites.row(), *_neighbours(countries), *prose()]
    return Suite("languages", tuple(forget), tuple(retain))


def _neighbours(countries: Sequence[Country]) -> Iterator[Line]:
    """Yield the demo's neighbours but those that tell a language or a capital.

    "The nationality of a person from Italy is" → "Italian" answers a forgotten question, and "Rome is a city in the
    country of" one of the capitals that are held out here.
    """
    languages = {language for country in countries for language in country.languages}
    lines = [
        *sets.country_lines(countries),
        *sets.city_lines(countries),
        *sets.free_form_lines(countries, sets.load_kinds()),
    ]
    for line in lines:
        if line["answer"] not in languages and not str(line["fact"]).startswith("home:"):
            yield line
