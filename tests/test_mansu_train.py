"""Masked training: what a step may not do, and what the weight of what is retained means."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_masked import BOUNDS, Layer, tiny

from mansu.masked import Bounds
from mansu.retain import NullSpace
from mansu.train import Retention, train


def trained(*, steps: int = 8, weight: float = 1.0, scale: float = 1.0, bounds: Bounds = BOUNDS) -> Layer:
    """Train half of a layer's masked parameters towards wanted outputs on half of its inputs, and to stay on others."""
    made = tiny(3, moved=0.0)
    made.masked.free[::2] = True
    forget, retain = made.inputs.chunk(2)
    wanted, kept = made.wanted[: len(forget)], made.layer(retain)
    objective: Any = SimpleNamespace(
        forget_loss=lambda model: (model(forget) - wanted).square().mean(),
        retain_loss=lambda model: scale * (model(retain) - kept).square().mean(),
    )
    retained = Retention({"l": made.masked.fisher}, NullSpace.whole({"l": made.layer}))
    train(made.layer, made.masked, objective, retained, steps, 2e-2, weight, bounds, "float32", lambda _: None)
    return made


@given(budget=st.floats(1e-6, 1e-2), reach=st.floats(0.1, 1.0))
def test_a_step_ends_within_the_fisher_budget_and_the_reach(budget: float, reach: float) -> None:
    made = trained(steps=2, bounds=replace(BOUNDS, fisher_budget=budget, reach=reach))
    masked = made.masked
    assert masked.cost(masked.master) <= budget * (1 + 1e-4)
    limit = torch.maximum(masked.lattice.scale * reach, masked.lattice.base.abs())
    assert bool((masked.master.abs() <= limit * (1 + 1e-6)).all())


def test_only_free_parameters_move_and_the_model_has_what_the_master_has() -> None:
    made = trained()
    masked = made.masked
    assert not masked.moved[~masked.free].any()
    assert bool(masked.moved[masked.free].any())
    assert torch.equal(made.layer.weight.view(-1)[masked.indices["l"]], masked.master)
    others = torch.ones(made.base.numel(), dtype=torch.bool)
    others[masked.indices["l"]] = False
    assert torch.equal(made.layer.weight.view(-1)[others], made.base.float().view(-1)[others])


def test_the_weight_scales_what_is_retained() -> None:
    by_weight, by_loss, whole = (trained(weight=w, scale=s) for w, s in ((0.25, 1.0), (1.0, 0.25), (1.0, 1.0)))
    assert torch.allclose(by_weight.masked.master, by_loss.masked.master, atol=1e-6)
    assert not torch.allclose(by_weight.masked.master, whole.masked.master, atol=1e-6)
