"""What every baseline is given: the same prompts and texts to train on, and others of the same sets to be chosen by."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mansu.data.examples import Prompts, Retained, draw
from mansu.data.prepare import Data
from mansu.mask.selection import circuit_regions
from mansu.precision import Precision
from mansu.request import Fact
from verify.behaviour.modules import nf4_linears
from verify.circuits import Circuit, describe
from verify.errors import UsageError

_FORGET_SHARE = 0.1
_RETAIN_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class BaselineData:
    """Prompts and texts to train on, and prompts to validate on, which no method sees before its rates are compared.

    `stored` is the dtype that an edit is written in. `regions` says which weights a circuit owns, bool by layer name
    (`mansu.mask.selection.circuit_regions`); only methods that stay within the circuit read it.
    """

    forget: Prompts
    forget_validation: Prompts
    retained: Retained
    retain_validation: Prompts
    stored: torch.dtype
    regions: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Steps, and examples a step: prompts of each set, and texts. The same for every method that is compared.

    `products` is the precision of matrix products in training, by default the engine's, so that times compare.
    """

    steps: int = 20
    prompts: int = 40
    texts: int = 8
    products: Precision = "bfloat16"


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices of one step's examples: forget prompts, retain prompts, retain texts."""

    forget: Sequence[int]
    retain: Sequence[int]
    texts: Sequence[int]


def baseline_data(
    data: Data, stored: torch.dtype, *, seed: int, regions: Mapping[str, Tensor] | None = None
) -> BaselineData:
    """Return the engine's own training data (`mansu.data.prepare`), with validation prompts split off.

    Forgetting is validated on the request's validation wordings, or, where a set has none, on a tenth of its facts;
    retention on a fifth of the facts that the engine trains on, by group. Held-out probes are in neither.
    Raises `UsageError` ME280 where a set is too small to split.
    """
    train, validation = data.request.forget.train, data.request.forget.validation
    if validation:
        forget, forget_validation = data.forget, data.forget_validation
    else:
        kept, out = split_facts(train, _FORGET_SHARE, seed, "forget")
        forget, forget_validation = data.forget.subset(kept), data.forget.subset(out)
    kept, out = split_facts(data.request.retain.train, _RETAIN_SHARE, seed, "retain")
    everything = data.retained
    retained = Retained(
        everything.prompts.subset(kept),
        everything.prompt_reference[kept],
        everything.texts,
        everything.text_reference,
    )
    return BaselineData(forget, forget_validation, retained, everything.prompts.subset(out), stored, regions)


def regions_of(model: Any, circuit: Circuit) -> dict[str, Tensor]:
    """Return which weights a circuit's nodes own, bool by layer name: the whole circuit, first and last layers too."""
    family = describe(model)
    return circuit_regions(family, circuit, nf4_linears(model), from_layer=0, below_layer=family.graph.layers)


def split_facts(facts: Sequence[Fact], share: float, seed: int, which: str) -> tuple[list[int], list[int]]:
    """Return the indices of facts to train on and of those set aside: whole facts, at least one of each group of two.

    Raises `UsageError` ME280 where none can be set aside.
    """
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, fact in enumerate(facts):
        places[fact.group][fact.fact].append(place)
    rng = random.Random(seed)  # noqa: S311  (a split, not a secret)
    aside: set[int] = set()
    for by_fact in places.values():
        names = sorted(by_fact)
        count = max(1, round(share * len(names))) if len(names) > 1 else 0
        aside.update(place for name in rng.sample(names, count) for place in by_fact[name])
    if not aside:
        raise UsageError(
            f"the {which} set leaves no facts to choose a learning rate by",
            expected="two facts of a kind or more that are trained on",
            found=f"{len(facts)} prompts",
            remedy="write more facts; the baselines are tuned on facts that they are not trained on",
            error_id="ME280",
        )
    return [place for place in range(len(facts)) if place not in aside], sorted(aside)


def batches(data: BaselineData, budget: Budget, seed: int) -> Iterator[Batch]:
    """Yield one batch a step, the same for every method and rate of one seed."""
    rng = random.Random(seed)  # noqa: S311  (batches, not secrets)
    for _ in range(budget.steps):
        yield Batch(
            forget=draw(rng, len(data.forget), budget.prompts),
            retain=draw(rng, len(data.retained.prompts), budget.prompts),
            texts=draw(rng, data.retained.texts.ids.shape[0], budget.texts),
        )
