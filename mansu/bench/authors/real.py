"""What a model should still know after forgetting fictitious authors: real ones, and facts about the world."""

from pydantic import TypeAdapter

from mansu.bench.loaders import Perturbed
from mansu.bench.suites.suite import FACTS
from mansu.demo import sets

_WRONG = 3


def real_authors() -> tuple[Perturbed, ...]:
    """Return questions about well-known works, each with three authors of the same kind who did not write them."""
    return TypeAdapter(tuple[Perturbed, ...]).validate_json((FACTS / "real_authors.json").read_bytes())


def world_facts() -> tuple[Perturbed, ...]:
    """Return the capitals of the demo's 75 countries, each with three capitals of the countries after it."""
    countries = sets.forgotten_countries(sets.load_countries())
    return tuple(
        Perturbed(
            question=f"What is the capital of {country.name}?",
            answer=country.capital,
            perturbed_answer=tuple(countries[(i + k) % len(countries)].capital for k in range(1, _WRONG + 1)),
        )
        for i, country in enumerate(countries)
    )
