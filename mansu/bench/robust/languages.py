"""The question in other languages: subject and answer in that language where they have another name there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mansu.bench.robust.asking import asking
from mansu.bench.robust.cloze import Probes, Source, ask, distinct_facts, subject
from mansu.bench.robust.translations import LANGUAGES, Tongue, Translations, load
from mansu.request import Fact
from verify.behaviour.loading import Language

KNOWN = 0.25
"""A language counts if the base gets this share of the facts right in it."""
_TRIAL = 40
"""Probes in each language to find that out."""


def spoken(base: Language, source: Source, suite: str) -> tuple[Tongue, ...]:
    """Return the languages in which the base knows the facts: at least a quarter of 40 probes, drawn apart."""
    known = []
    for tongue in LANGUAGES:
        probes = _probes(source, suite, (tongue,), way=f"trial {tongue}", most=_TRIAL)
        if float(ask(base, probes).right.double().mean()) >= KNOWN:
            known.append(tongue)
    return tuple(known)


def languages(source: Source, suite: str, tongues: Sequence[Tongue]) -> Probes:
    """Return a sample of all facts in all wordings of these languages (at least one)."""
    return _probes(source, suite, tongues, way="languages", most=source.most)


def _probes(source: Source, suite: str, tongues: Sequence[Tongue], *, way: str, most: int) -> Probes:
    names = load()
    every = [pair for tongue in tongues for pair in _worded(source, suite, tongue, names)]
    chosen = source.rng(way).sample(every, min(most, len(every)))
    return Probes(
        "languages",
        ", ".join(LANGUAGES[tongue] for tongue in tongues),
        tuple(fact for fact, _ in chosen),
        tuple(pool for _, pool in chosen),
        dropped=tuple(name for tongue, name in LANGUAGES.items() if tongue not in tongues),
    )


def _worded(source: Source, suite: str, tongue: Tongue, names: Translations) -> Iterator[tuple[Fact, tuple[str, ...]]]:
    """Yield every fact in every wording of a language, and its pool there."""
    for fact in distinct_facts(source.facts):
        pool = tuple(sorted({names.answer(suite, answer, tongue) for answer in source.pool(fact)}))
        about = names.subject(suite, subject(fact), tongue)
        for wording in asking(suite).foreign[tongue]:
            prompt = wording.replace("{}", about)
            yield replace(fact, prompt=prompt, answer=names.answer(suite, fact.answer, tongue)), pool
