"""The split: facts to train on, and facts that are only measured."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mansu.request.facts import Fact


@dataclass(frozen=True, slots=True)
class Split:
    """Facts to train on and facts to measure on; no wording, and for `held_out_facts` no fact, is in both.

    `validation` are wordings that are neither trained on nor measured in the certificate: they tell when to snap.
    """

    train: tuple[Fact, ...]
    validation: tuple[Fact, ...]
    held_out_wordings: tuple[Fact, ...]
    held_out_facts: tuple[Fact, ...]

    def every(self) -> tuple[Fact, ...]:
        """Return all facts."""
        return (*self.train, *self.validation, *self.held_out_wordings, *self.held_out_facts)


def halves(facts: Sequence[Fact], rng: random.Random) -> Split:
    """Hold out half of each group's facts whole, as of a retain set."""
    return hold_out(facts, rng, share_of_facts=0.5, share_of_wordings=0.0, share_of_validation=0.0)


def hold_out(
    facts: Sequence[Fact],
    rng: random.Random,
    *,
    share_of_facts: float,
    share_of_wordings: float,
    share_of_validation: float,
) -> Split:
    """Hold out whole facts per group, and of the facts that stay the last wordings, validation before measurement."""
    groups: dict[str, dict[str, list[Fact]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        groups[fact.group][fact.fact].append(fact)
    train: list[Fact] = []
    validation: list[Fact] = []
    wordings: list[Fact] = []
    held_out: list[Fact] = []
    for by_fact in groups.values():
        names = sorted(by_fact)
        rng.shuffle(names)
        whole = round(share_of_facts * len(names))
        for name in names[:whole]:
            held_out.extend(by_fact[name])
        for name in names[whole:]:
            lines = by_fact[name]
            measured = len(lines) - int(share_of_wordings * len(lines))
            trained = measured - int(share_of_validation * len(lines))
            train.extend(lines[:trained])
            validation.extend(lines[trained:measured])
            wordings.extend(lines[measured:])
    return Split(tuple(train), tuple(validation), tuple(wordings), tuple(held_out))
