"""A made-up world: people of two-word names, four relations, four wordings of each fact, and filler text.

Forget set: the city of half of the people. Their cities occur in no other fact (the filler names them), so that
the wordings and the answers are known to a model that never saw the forget set, and only the facts are not. Halves A
and B of the forget set hold every city once each: to learn A says nothing of B.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mansu.request import Fact

WORDINGS = {
    "city": ("{} lives in", "the home of {} is in", "{} has a house in", "to see {} go to"),
    "job": ("{} works as", "the job of {} is", "{} was taught to be", "people know {} as"),
    "food": ("{} likes to eat", "the dish of {} is", "{} went out for", "cook for {} some"),
    "colour": ("{} always wears", "the coat of {} is", "{} paints in", "give to {} something"),
}
STARTS = (
    *("The", "In", "A", "When", "My", "This", "There", "For", "She", "He", "We", "It", "How", "What", "One"),
    *("According", "I", "They", "People", "Once"),
)
"""First words of filler, which the engine samples the base's own texts from."""

_MIDDLES = ("saw a road to", "sold the", "old friend liked", "talked of", "long day near", "wanted some", "had no")
_ENDS = ("and then it rained", "for the whole year", "but nobody came", "with a small dog", "before the war", "again")


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the world is: `people` is a square number, `answers` divides a quarter of it."""

    people: int = 64
    answers: int = 16
    filler: int = 400


@dataclass(frozen=True, slots=True)
class World:
    """All facts in all wordings, and texts. Of `retain`, methods are given `retain_given`; the rest is measured on.

    `half_a` and `half_b` are the forget set. `filler_new` is text that no model was trained on.
    """

    half_a: tuple[Fact, ...]
    half_b: tuple[Fact, ...]
    retain_given: tuple[Fact, ...]
    retain_measured: tuple[Fact, ...]
    filler: tuple[str, ...]
    filler_new: tuple[str, ...]
    pools: dict[str, tuple[str, ...]]

    @property
    def forget(self) -> tuple[Fact, ...]:
        """The forget set, A before B."""
        return (*self.half_a, *self.half_b)

    @property
    def retain(self) -> tuple[Fact, ...]:
        """Everything else."""
        return (*self.retain_given, *self.retain_measured)

    def pool(self, fact: Fact) -> tuple[str, ...]:
        """Return the answers among which this fact's is chosen."""
        return self.pools[fact.group]


def make_world(seed: int, shape: Shape) -> World:
    """Draw a world; each seed gives other facts."""
    rng = random.Random(seed)
    side = round(shape.people**0.5)
    names = [f"f{i} l{j}" for i in range(side) for j in range(side)]
    rng.shuffle(names)
    half, quarter = len(names) // 2, len(names) // 4
    pools = {"forgotten city": _words("t", shape.answers), "city": _words("c", shape.answers)}
    pools |= {relation: _words(relation[0] * 2, shape.answers) for relation in ("job", "food", "colour")}
    a, b = (
        _facts(rng, part, "city", "forgotten city", pools["forgotten city"])
        for part in (names[:quarter], names[quarter:half])
    )
    retain = [_facts(rng, names[half:], "city", "city", pools["city"])]
    retain += [_facts(rng, names, relation, relation, pools[relation]) for relation in ("job", "food", "colour")]
    given, measured = [], []
    for facts in retain:
        people = sorted({fact.fact for fact in facts})
        kept = set(rng.sample(people, len(people) // 2))
        given += [fact for fact in facts if fact.fact in kept]
        measured += [fact for fact in facts if fact.fact not in kept]
    nouns = [word for pool in pools.values() for word in pool]
    text = [_sentence(rng, nouns) for _ in range(2 * shape.filler)]
    return World(
        half_a=tuple(a),
        half_b=tuple(b),
        retain_given=tuple(given),
        retain_measured=tuple(measured),
        filler=tuple(text[: shape.filler]),
        filler_new=tuple(text[shape.filler :]),
        pools=pools,
    )


def _words(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{i}" for i in range(count))


def _facts(rng: random.Random, names: Sequence[str], relation: str, group: str, pool: Sequence[str]) -> list[Fact]:
    """Give each name an answer, every answer equally often, in every wording."""
    answers = [pool[i % len(pool)] for i in range(len(names))]
    rng.shuffle(answers)
    return [
        Fact(
            prompt=wording.format(name),
            answer=answer,
            group=group,
            fact=f"{relation} of {name}",
            wording=number,
            alternatives=(),
            corrupt=None,
        )
        for name, answer in zip(names, answers, strict=True)
        for number, wording in enumerate(WORDINGS[relation])
    ]


def _sentence(rng: random.Random, nouns: Sequence[str]) -> str:
    parts = (rng.choice(STARTS), rng.choice(_MIDDLES), rng.choice(nouns), rng.choice(_ENDS), "in", rng.choice(nouns))
    return " ".join(parts)


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words that knows every word of the world."""
    texts = [f"{fact.prompt} {fact.answer}" for fact in (*world.forget, *world.retain)]
    texts += [*world.filler, *world.filler_new, *STARTS, *(word for pool in world.pools.values() for word in pool)]
    words = ["[UNK]", *sorted({word for text in texts for word in text.split()})]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as padded rows: `ids` int64 [n, T], and `labels` with −100 in the padding."""

    ids: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.ids.shape[0]


def rows_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Rows:
    """Tokenize texts; padding stands at the right, where a causal model does not see it."""
    tokens = [tokenizer(text)["input_ids"] for text in texts]
    ids = torch.zeros(len(tokens), max(map(len, tokens)), dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    for row, found in enumerate(tokens):
        ids[row, : len(found)] = labels[row, : len(found)] = torch.tensor(found)
    return Rows(ids, labels)


def fact_texts(facts: Sequence[Fact]) -> list[str]:
    """Return facts as sentences that end in their answers."""
    return [f"{fact.prompt} {fact.answer}" for fact in facts]
