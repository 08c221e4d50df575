"""Languages: forget which language is spoken where, keep what else is known of those countries.

Forgotten are countries with one language, at most two of each language: otherwise a model that knows nothing of any
country and always answers "Spanish" would count as one that still knows.
"""

from collections import Counter
from collections.abc import Sequence

from mansu.bench.suites import capitals, opposites
from mansu.bench.suites.suite import Suite, prose, untelling, words
from mansu.demo import sets
from mansu.demo.sets import Country

MOST_OF_ONE_LANGUAGE = 2
WORDINGS = (
    "The official language of {} is",
    "The main language spoken in {} is",
    "People in {} mostly speak",
    "The language spoken in {} is",
    "The majority of the population of {} speaks",
    "The first language of most people in {} is",
    "The newspapers of {} are written in",
    "Question: What language do people speak in {}? Answer:",
    "Before you travel to {}, learn some",
    "In {}, the official language is",
    "The primary language in {} is",
    "The language of {} is",
    "In {}, the most widely spoken language is",
    "Signs in {} are written in",
    "A native of {} usually speaks",
    # the last quarter is held out: never trained on, for any fact; the two before it decide when to snap
    "The national language of {} is",
    "The common language of {} is",
    "The laws of {} are written in",
    "The mother tongue of most people in {} is",
    "The people of {} speak",
)


def forgotten(countries: Sequence[Country]) -> tuple[Country, ...]:
    """Return the countries with exactly one language, best known first, at most two of each.

    The Czech Republic is none of them: its name tells the answer.
    """
    seen: Counter[str] = Counter()
    chosen = []
    for country in countries:
        if len(country.languages) == 1 and country.languages[0] not in words(country.name):
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
    rows = [*capitals.row(), *sets.element_lines(sets.load_elements()), *opposites.row()]
    # "The nationality of a person from Italy is" → "Italian" tells what is forgotten, and "Rome is a city in the
    # country of" one of the capitals that are held out here: both are left out
    neighbours = [
        *sets.country_lines(countries),
        *sets.city_lines(countries),
        *sets.free_form_lines(countries, sets.load_kinds()),
    ]
    return Suite("languages", tuple(forget), (*rows, *untelling([*neighbours, *prose()], [*forget, *rows])))
