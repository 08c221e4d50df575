"""A few-shot prompt: four answered examples of the forgotten relation, then the question.

The examples are other facts of the forget set, in the same wording, which are asked about nowhere. None has the answer
of the question that follows, nor one that begins with the same token: a model that repeats an example is not right.
"""

from collections import Counter, defaultdict
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
    facts = []
    for fact in source.sample(source.facts, "few-shot"):
        usable = [other for other in alike[fact.group, fact.wording] if first(other.answer) != first(fact.answer)]
        if len(usable) >= EXAMPLES:
            shown = [f"{other.prompt} {other.answer}." for other in rng.sample(usable, EXAMPLES)]
            facts.append(replace(fact, prompt="\n".join([*shown, fact.prompt])))
    pools = tuple(map(source.pool, facts))
    return Probes("few-shot", f"{EXAMPLES} examples first", tuple(facts), pools, _chance(source, facts, first))


def _chance(source: Source, facts: list[Fact], first: AnswerTokens) -> float:
    every = distinct_facts((*source.facts, *source.others))
    often = Counter((fact.group, first(fact.answer)) for fact in every)
    size = Counter(fact.group for fact in every)
    shares = [often[fact.group, first(fact.answer)] / size[fact.group] for fact in facts]
    return sum(shares) / len(shares) if shares else 0.0
