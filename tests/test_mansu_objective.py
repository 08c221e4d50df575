"""The forget term loses answers without inverting them."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_baselines import known

from mansu.data.prepare import predicted
from mansu.solve.objective import (
    Divergences,
    Objective,
    Sizes,
    Weights,
    asked,
    divergence,
    forget_term,
    retain_divergences,
)
from mansu.solve.standing import leads

POOL = [(1, 2, 3)]
ANSWER = torch.tensor([1])


def term(lead: float, level: float = 0.0) -> float:
    logits = torch.zeros(1, 50)
    logits[0, 1] = lead
    return float(forget_term(logits, ANSWER, POOL, level=level))


def test_smallest_near_the_alternatives_and_bounded_below() -> None:
    assert term(8.0) > term(3.0) > term(0.5)
    assert term(-20.0) > term(0.0)
    assert min(term(x / 4) for x in range(-80, 80)) >= 0


def test_a_level_is_where_an_improbable_answer_ends() -> None:
    leads = [x / 4 for x in range(-40, 40)]
    assert min(leads, key=lambda lead: term(lead, level=-2.0)) == -2.0
    assert min(leads, key=term) == 0.0


def test_divergence_is_zero_only_at_the_reference() -> None:
    reference = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert torch.allclose(divergence(reference, reference), torch.zeros(3), atol=1e-6)
    assert bool((divergence(reference, torch.zeros(3, 7).log_softmax(-1)) > 0).all())


class Shifted:
    """The tiny model with so much more on every answer's logit, and on those of the first half."""

    def __init__(self, every: float, half: float) -> None:
        self.model = known().fresh()
        self.device = self.model.device
        pool = list(known().data.retained.prompts.pools[0])
        self.shift = torch.zeros(self.model.config.vocab_size)
        self.shift[pool] += every
        self.shift[pool[: len(pool) // 2]] += half

    def __call__(self, **inputs: Any) -> Any:
        return SimpleNamespace(logits=self.model(**inputs).logits + self.shift)


@torch.no_grad()
def diverged(model: Any, base: Any) -> Divergences:
    given = known().data.retained
    retained = predicted(base, given.prompts, given.texts)
    return retain_divergences(model, retained, range(len(given.prompts)), range(2))


def test_the_base_does_not_diverge_from_itself() -> None:
    same = diverged(known().fresh(), known().fresh())
    assert max(float(same.prompts), float(same.answers), float(same.texts), float(same.shift)) < 1e-4


def test_answers_count_by_themselves_however_little_the_model_puts_on_them() -> None:
    likely = diverged(Shifted(0.0, 0.5), Shifted(0.0, 0.0))
    unlikely = diverged(Shifted(-12.0, 0.5), Shifted(-12.0, 0.0))
    assert float(unlikely.prompts) < float(likely.prompts) / 20
    assert float(unlikely.answers) == pytest.approx(float(likely.answers), rel=0.05)
    together = diverged(Shifted(-2.0, 0.0), Shifted(0.0, 0.0))
    assert float(together.prompts) > 0.05
    assert float(together.answers) < 1e-3


@torch.no_grad()
def test_what_right_answers_share_is_told_from_what_they_do_not() -> None:
    """Of all prompts as many right answers gain as lose; of those with answers of the first half all gain."""
    given = known().data.retained
    retained, model = predicted(Shifted(0.0, 0.0), given.prompts, given.texts), Shifted(0.0, 0.5)
    half = set(given.prompts.pools[0][: len(given.prompts.pools[0]) // 2])
    right = given.prompts.answers_of(range(len(given.prompts)), torch.device("cpu")).tolist()
    gaining = [i for i, answer in enumerate(right) if answer in half]
    losing = [i for i, answer in enumerate(right) if answer not in half]
    even = min(len(gaining), len(losing))
    shared = float(retain_divergences(model, retained, gaining, range(2)).shift)
    opposed = float(retain_divergences(model, retained, gaining[:even] + losing[:even], range(2)).shift)
    assert shared > 0.1
    assert opposed < shared / 2
    everything = float(diverged(Shifted(0.5, 0.0), Shifted(0.0, 0.0)).shift)
    assert everything < 1e-3


def test_retain_terms_are_weighed_one_by_one() -> None:
    weights = Weights(prompts=2.0, text=3.0, answers=5.0, shift=7.0)
    terms = Divergences(*torch.tensor([1.0, 0.1, 0.01, 0.001]))
    assert float(weights.of(terms)) == pytest.approx(2.0 + 0.5 + 0.03 + 0.007)


def test_the_leading_half_are_the_prompts_whose_answers_lead_most() -> None:
    data = known().data
    rng = random.Random(0)
    whole = Objective(data.forget, data.retained, Weights(), Sizes(), rng)
    model = known().fresh()
    half = whole.leading(model)
    assert half.rng is rng
    assert len(half.forget) == (len(whole.forget) + 1) // 2
    with torch.no_grad():
        lead = dict(zip(whole.forget.ids, leads(*asked(model, whole.forget)).tolist(), strict=True))
    chosen = [lead[row] for row in half.forget.ids]
    left = [lead[row] for row in set(whole.forget.ids) - set(half.forget.ids)]
    assert min(chosen) >= max(left)
