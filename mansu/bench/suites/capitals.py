"""Capitals: the demo's own sets, and its facts as a row of other suites."""

from mansu.bench.suites.suite import Suite
from mansu.demo import sets
from mansu.demo.sets import Line

# asked of countries that are not forgotten too, of which not all have a parliament, or have it in their capital
KEPT_WORDINGS = tuple(wording for wording in sets.CAPITALS[:7] if "parliament" not in wording)


def suite() -> Suite:
    """Return what the demo forgets and keeps, line for line."""
    return Suite("capitals", tuple(sets.build_forget_set()), tuple(sets.build_retain_set()))


def row() -> list[Line]:
    """Return the undisputed capitals in six wordings."""
    return [
        line
        for country in sets.load_countries()
        if not country.kept
        for line in sets.worded(
            "capitals",
            f"capital:{country.name}",
            sets.filled(KEPT_WORDINGS, country.name),
            country.capital,
        )
    ]
