"""A few-shot prompt: four answered examples of the forgotten relation, then the question.

The examples are other facts of the forget set, in the same wording, which are asked about nowhere. None has the answer
of the question that follows, nor one that begins with the same token: a model that repeats an example is not right.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mansu.bench.robust.cloze import Probes, Source, distinct_facts
from mansu.request import Fact
from verify.behaviour.probes import AnswerTokens

EXAMPLES = 4


def few_shot(source: Source, tokenizer: Any) -> Probes:
    """Return a sample of the held-out wordings, each after its examples; facts with too few examples are left out.

    Chance is what drawing an answer as often as the set has it gets: examples may tell that much.
    """
    first = AnswerTokens(tokenizer)
    alike: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for other in source.others:
        alike[other.group, other.wording].append(other)
    rng = source.rng("examples")
    asked = (
        after_examples(fact, alike[fact.group, fact.wording], EXAMPLES, first, rng)
        for fact in source.sample(source.facts, "few-shot")
    )
    facts = [fact for fact in asked if fact is not None]
    pools = tuple(map(source.pool, facts))
    return Probes("few-shot", f"{EXAMPLES} examples first", tuple(facts), pools, _chance(source, facts, first))


def after_examples(
    fact: Fact, others: Sequence[Fact], count: int, first: AnswerTokens, rng: random.Random
) -> Fact | None:
    """Return the fact with `count` answered examples before its prompt, a line each; None if there are too few."""
    usable = [other for other in others if first(other.answer) != first(fact.answer)]
    if len(usable) < count:
        return None
    shown = [f"{other.prompt} {other.answer}." for other in rng.sample(usable, count)]
    return replace(fact, prompt="\n".join([*shown, fact.prompt]))


def _chance(source: Source, facts: list[Fact], first: AnswerTokens) -> float:
    every = distinct_facts((*source.facts, *source.others))
    often = Counter((fact.group, first(fact.answer)) for fact in every)
    size = Counter(fact.group for fact in every)
    shares = [often[fact.group, first(fact.answer)] / size[fact.group] for fact in facts]
    return sum(shares) / len(shares) if shares else 0.0
