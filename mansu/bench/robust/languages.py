"""The question in other languages, subject and answer with the name that they have there.

Two answered examples in the same language come first. A small model that is asked out of the blue goes on with an
article ("La capitale de la France est la"), whatever it knows.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mansu.bench.robust.asking import asking
from mansu.bench.robust.cloze import Probes, Source, ask, distinct_facts, subject
from mansu.bench.robust.few_shot import after_examples
from mansu.bench.robust.translations import LANGUAGES, Tongue, Translations, load
from mansu.request import Fact
from verify.behaviour.loading import Language
from verify.behaviour.probes import AnswerTokens

KNOWN = 0.25
"""A language counts if the base gets this share of the facts right in it, beyond chance."""
EXAMPLES = 2
_TRIAL = 40
"""Probes in each language to find that out."""


def spoken(base: Language, source: Source, suite: str) -> tuple[Tongue, ...]:
    """Return the languages in which the base knows the facts: a quarter of 40 probes beyond chance, drawn apart."""
    return tuple(tongue for tongue in LANGUAGES if _known(base, replace(source, most=_TRIAL), suite, tongue))


def _known(base: Language, source: Source, suite: str, tongue: Tongue) -> bool:
    probes = languages(source, suite, (tongue,), base.tokenizer, way=f"trial {tongue}")
    if not probes.facts:
        return False
    found = ask(base, probes)
    return float(found.right.double().mean()) >= KNOWN + (found.chance or 0.0)


def languages(
    source: Source, suite: str, tongues: Sequence[Tongue], tokenizer: Any, *, way: str = "languages"
) -> Probes:
    """Return a sample of all facts in all wordings of these languages (at least one); `way` names the sample."""
    names, first, rng = load(), AnswerTokens(tokenizer), source.rng(f"{way} examples")
    every = [
        (fact, tongue, number)
        for tongue in tongues
        for fact in distinct_facts(source.facts)
        for number in range(len(asking(suite).foreign[tongue]))
    ]
    facts, pools = [], []
    for fact, tongue, number in source.rng(way).sample(every, min(source.most, len(every))):
        others = [_worded(other, suite, tongue, number, names) for other in distinct_facts(source.others)]
        asked = after_examples(_worded(fact, suite, tongue, number, names), others, EXAMPLES, first, rng)
        if asked is not None:
            facts.append(asked)
            pools.append(tuple(sorted({names.answer(suite, answer, tongue) for answer in source.pool(fact)})))
    return Probes(
        "languages",
        ", ".join(LANGUAGES[tongue] for tongue in tongues),
        tuple(facts),
        tuple(pools),
        dropped=tuple(name for tongue, name in LANGUAGES.items() if tongue not in tongues),
    )


def _worded(fact: Fact, suite: str, tongue: Tongue, number: int, names: Translations) -> Fact:
    """Return a fact in a wording of a language, with its answer there."""
    prompt = asking(suite).foreign[tongue][number].replace("{}", names.subject(suite, subject(fact), tongue))
    return replace(fact, prompt=prompt, answer=names.answer(suite, fact.answer, tongue))
