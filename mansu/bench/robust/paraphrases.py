"""New wordings of a suite's facts: indirect, in dialogues, negated. No set contains them (`asking`)."""

from dataclasses import replace

from mansu.bench.robust.asking import asking
from mansu.bench.robust.cloze import Probes, Source, distinct_facts, subject
from mansu.demo.sets import filled


def paraphrases(source: Source, suite: str) -> Probes:
    """Return a sample of all facts in all new wordings; raises `UsageError` ME320 for an unknown suite."""
    every = [
        replace(fact, prompt=prompt)
        for fact in distinct_facts(source.facts)
        for prompt in filled(asking(suite).paraphrases, subject(fact))
    ]
    facts = tuple(source.sample(every, "paraphrases"))
    return Probes("paraphrases", "new paraphrases", facts, tuple(map(source.pool, facts)))
