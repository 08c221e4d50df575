"""The forget term loses answers without inverting them."""

import torch

from mansu.objective import divergence, forget_term

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
