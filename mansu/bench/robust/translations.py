"""Names of countries, capitals, languages and elements in five other languages (`facts/translations.json`)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mansu.bench.suites.suite import FACTS

Tongue = Literal["fr", "es", "de", "it", "pt"]
LANGUAGES: dict[Tongue, str] = {"fr": "French", "es": "Spanish", "de": "German", "it": "Italian", "pt": "Portuguese"}


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Names(_Facts):
    """One thing's name by language; Portuguese as in Brazil."""

    fr: str
    es: str
    de: str
    it: str
    pt: str


class Translations(_Facts):
    """The file: English name → names. `of_countries` stand with "of"; `capitals` has only those that differ."""

    of_countries: dict[str, Names]
    capitals: dict[str, Names]
    languages: dict[str, Names]
    elements: dict[str, Names]

    def subject(self, suite: str, name: str, tongue: Tongue) -> str:
        """Return a subject as the wordings of that language take it; raises KeyError where there is no translation."""
        tables = {"capitals": self.of_countries, "languages": self.of_countries, "elements": self.elements}
        return name if suite == "opposites" else str(getattr(tables[suite][name], tongue))

    def answer(self, suite: str, name: str, tongue: Tongue) -> str:
        """Return an answer in that language: symbols, and the opposites of English words, stay as they are."""
        tables = {"capitals": self.capitals, "languages": self.languages}
        names = tables.get(suite, {}).get(name)
        return name if names is None else str(getattr(names, tongue))


def load() -> Translations:
    """Return the translations."""
    return Translations.model_validate_json((FACTS / "translations.json").read_bytes())
