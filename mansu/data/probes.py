"""From a split request to held-out probes, and to clean and corrupt pairs for attribution."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mansu.request import Fact, Request, pools
from verify.behaviour.probes import AnswerTokens, Choice, PairProbe, Probes, Text
from verify.circuits import Pair

PROSE_ROW = "prose"
Pools = Mapping[Fact, tuple[str, ...]]


def all_pools(request: Request) -> Pools:
    """Return the choice pool of every fact of a request."""
    return {**pools(request.forget.every()), **pools(request.retain.every())}


def held_out_probes(request: Request, tokenizer: Any, *, forget_pairs: int, retain_pairs: int, seed: int) -> Probes:
    """Return the probes of a certificate: nothing in them was trained on.

    Rows of forgetting: the same facts in held-out wordings, and held-out facts; rows of retention: each group's
    held-out facts, and held-out prose.
    """
    pool_of = all_pools(request)
    names = {pool: f"p{number}" for number, pool in enumerate(sorted(set(pool_of.values())))}

    def choice(axis: Literal["forgetting", "retention"], row: str, fact: Fact) -> Choice:
        pool = names[pool_of[fact]]
        return Choice(axis=axis, row=row, prompt=fact.prompt, answer=fact.answer, pool=pool)

    choices = [
        *(choice("forgetting", f"{f.group}, held-out wordings", f) for f in request.forget.held_out_wordings),
        *(choice("forgetting", f"{f.group}, held-out facts", f) for f in request.forget.held_out_facts),
        *(choice("retention", f.group, f) for f in request.retain.held_out_facts),
    ]
    sources: tuple[tuple[Literal["forget", "retain"], Sequence[Fact], int], ...] = (
        ("forget", request.forget.held_out_wordings, forget_pairs),
        ("retain", request.retain.held_out_facts, retain_pairs),
    )
    pairs = [
        PairProbe(set=which, clean=fact.prompt, corrupt=corrupt, answer=fact.answer, pool=names[pool])
        for which, facts, count in sources
        for fact, corrupt, pool in contrast_pairs(facts, pool_of, tokenizer, count=count, seed=seed)
    ]
    used = {choice.pool for choice in choices} | {pair.pool for pair in pairs}
    return Probes(
        choices=tuple(choices),
        texts=tuple(Text(row=PROSE_ROW, text=text) for text in request.prose_held_out),
        pairs=tuple(pairs),
        pools={name: pool for pool, name in names.items() if name in used},
    )


def training_pairs(facts: Sequence[Fact], pool_of: Pools, tokenizer: Any, *, count: int, seed: int) -> list[Pair]:
    """Return tokenized attribution pairs of trained facts."""
    first = AnswerTokens(tokenizer)
    return [
        Pair(
            clean=tuple(tokenizer(fact.prompt)["input_ids"]),
            corrupt=tuple(tokenizer(corrupt)["input_ids"]),
            answer=first(fact.answer),
            alternatives=tuple(t for t in first.pool(pool) if t != first(fact.answer)),
        )
        for fact, corrupt, pool in contrast_pairs(facts, pool_of, tokenizer, count=count, seed=seed)
    ]


def contrast_pairs(
    facts: Sequence[Fact], pool_of: Pools, tokenizer: Any, *, count: int, seed: int
) -> list[tuple[Fact, str, tuple[str, ...]]]:
    """Give each fact a corrupt partner of the same token length: its own, or one built from another fact of its group.

    Of a cloze, that is another fact's prompt in the same wording, whose answer begins with another token; of multiple
    choice, another question before the same choices. Facts without one are left out; at most `count` are drawn.
    """
    first = AnswerTokens(tokenizer)
    length = _Lengths(tokenizer)
    alike: dict[tuple[str, int, int], list[Fact]] = defaultdict(list)
    stems: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.stem:
            stems[fact.group, length[fact.stem]].append(fact)
        else:
            alike[fact.group, fact.wording, length[fact.prompt]].append(fact)
    rng = random.Random(seed)  # noqa: S311  (a sample, not a secret)
    order = list(facts)
    rng.shuffle(order)
    found: list[tuple[Fact, str, tuple[str, ...]]] = []
    for fact in order:
        if len(found) == count:
            break
        corrupt = fact.corrupt
        if corrupt is not None and length[corrupt] == length[fact.prompt] and corrupt != fact.prompt:
            pass
        elif fact.stem:
            corrupt = _other_question(fact, stems[fact.group, length[fact.stem]], length, rng)
            if corrupt is None:
                continue
        else:
            others = [
                other.prompt
                for other in alike[fact.group, fact.wording, length[fact.prompt]]
                if first(other.answer) != first(fact.answer) and _shares_frame(other, fact)
            ]
            if not others:
                continue
            corrupt = rng.choice(others)
        pool = pool_of[fact]
        if len(first.pool(pool)) > 1:
            found.append((fact, corrupt, pool))
    return found


class _Lengths(dict[str, int]):
    """Numbers of tokens, each text tokenized once."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, text: str) -> int:
        self[text] = len(self._tokenizer(text)["input_ids"])
        return self[text]


def _other_question(fact: Fact, others: Sequence[Fact], length: Mapping[str, int], rng: random.Random) -> str | None:
    """Return the prompt of `fact` with another fact's question; None if none keeps the token length."""
    tail = fact.prompt.removeprefix(fact.stem)
    for other in rng.sample(others, len(others)):
        prompt = other.stem + tail
        differs = other.stem != fact.stem and other.fact != fact.fact and other.choice != fact.choice
        if differs and length[prompt] == length[fact.prompt]:
            return prompt
    return None


def _shares_frame(one: Fact, two: Fact) -> bool:
    """Whether two prompts are one wording about two subjects: they share their first or their last words."""
    a, b = one.prompt.split(), two.prompt.split()
    shared = sum(x == y for x, y in zip(a, b, strict=False)) + sum(
        x == y for x, y in zip(reversed(a), reversed(b), strict=False)
    )
    return one.prompt != two.prompt and shared >= (len(a) + len(b)) / 4
