"""What is asked about, and how prompts that their answer continues are scored."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mansu.bench.robust.results import Answers, Way
from mansu.data.examples import answers_right, tokenize
from mansu.request import Fact, Request, pools
from verify.behaviour.loading import Language
from verify.errors import UsageError

Pool = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A forget set as it is measured: `facts` are asked about, `others` of the set never are.

    Every way of asking has its own stream of random numbers, which depends on the seed and on no model: all models are
    asked the same. At most `most` probes a row.
    """

    facts: tuple[Fact, ...]
    others: tuple[Fact, ...]
    pool_of: Mapping[tuple[str, str, int], Pool]
    seed: int
    most: int

    def pool(self, fact: Fact) -> Pool:
        """Return the answers a fact's is chosen among, however it is asked."""
        return self.pool_of[fact.group, fact.fact, fact.wording]

    def rng(self, way: str) -> random.Random:
        """Return the random numbers of a way of asking."""
        return random.Random(f"{way} {self.seed}")  # noqa: S311  (a sample, not a secret)

    def sample(self, facts: Sequence[Fact], way: str) -> list[Fact]:
        """Return at most `most` of the facts."""
        return self.rng(way).sample(facts, min(self.most, len(facts)))


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked in one way: facts with their prompts, and the answers that each is chosen among.

    `chance` is what guessing gets; None means one over the number of different first tokens in a pool.
    """

    way: Way
    label: str
    facts: tuple[Fact, ...]
    pools: tuple[Pool, ...]
    chance: float | None = None
    dropped: tuple[str, ...] = ()


def source(request: Request, *, seed: int, most: int = 100) -> Source:
    """Return what is measured of a request: the facts that were trained on, in their held-out wordings.

    Where a set has one wording of each fact, its held-out facts. Multiple choice is left out: it has its own form.
    Raises `UsageError` ME355 where nothing is left.
    """
    forget = request.forget
    every = forget.every()
    for held_out in (forget.held_out_wordings, forget.held_out_facts):
        if facts := tuple(fact for fact in held_out if not fact.stem):
            asked = {(fact.group, fact.fact) for fact in facts}
            others = tuple(fact for fact in every if not fact.stem and (fact.group, fact.fact) not in asked)
            pool_of = {(fact.group, fact.fact, fact.wording): pool for fact, pool in pools(every).items()}
            return Source(facts, others, pool_of, seed, most)
    raise UsageError(
        "the forget set cannot be asked in other ways",
        expected="held-out prompts that their answer continues",
        found=f"{len(every)} prompts, none held out or all of them multiple choice",
        remedy="write facts as prompts and answers, at least three facts or four wordings of one",
        error_id="ME355",
    )


def subject(fact: Fact) -> str:
    """Return what a suite's fact is about: "France" of "capital:France"."""
    return fact.fact.partition(":")[2]


def distinct_facts(facts: Iterable[Fact]) -> list[Fact]:
    """Return the first wording of each fact, in order."""
    found: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        found.setdefault((fact.group, fact.fact), fact)
    return list(found.values())


def wordings(source: Source) -> Probes:
    """Return the held-out wordings of the set itself, to compare the other ways with."""
    facts = tuple(source.sample(source.facts, "wordings"))
    return Probes("wordings", "held-out wordings", facts, tuple(map(source.pool, facts)))


def ask(language: Language, probes: Probes) -> Answers:
    """Ask a model: an answer is right if it is the likeliest of its pool, by first token."""
    prompts = tokenize(language.tokenizer, probes.facts, probes.pools)
    guessed = sum(1 / len(pool) for pool in prompts.pools) / len(prompts)
    chance = guessed if probes.chance is None else probes.chance
    return Answers(probes.way, probes.label, answers_right(language.model, prompts), chance, dropped=probes.dropped)
