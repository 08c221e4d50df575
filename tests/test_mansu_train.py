"""Masked training: what a step may not do."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_masked import BOUNDS, Layer, tiny

from mansu.retain.null_space import NullSpace
from mansu.solve.masked import Bounds
from mansu.solve.train import Retention, train


def trained(*, steps: int = 8, bounds: Bounds = BOUNDS, fixed: float = 0.0) -> Layer:
    """Train half of a layer's masked parameters towards wanted outputs on half of its inputs, and to stay on others.

    Of the other half, which is fixed, that share was moved before.
    """
    made = tiny(3, moved=fixed)
    masked = made.masked
    masked.free[::2] = True
    masked.set(torch.where(masked.free, masked.lattice.base, masked.master))
    forget, retain = made.inputs.chunk(2)
    wanted, kept = made.wanted[: len(forget)], made.layer(retain)
    objective: Any = SimpleNamespace(
        forget_loss=lambda model: (model(forget) - wanted).square().mean(),
        retain_loss=lambda model: (model(retain) - kept).square().mean(),
    )
    retained = Retention({"l": made.masked.fisher}, NullSpace.whole({"l": made.layer}))
    train(
        made.layer,
        masked,
        objective,
        retained,
        steps=steps,
        learning_rate=2e-2,
        bounds=bounds,
        precision="float32",
        progress=lambda _: None,
    )
    return made


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 2.0), reach=st.floats(0.1, 1.0), fixed=st.sampled_from([0.0, 0.5]))
def test_a_step_ends_within_the_fisher_budget_and_no_further_out_than_the_reach(
    share: float, reach: float, fixed: float
) -> None:
    """The budget is a share of what the step would cost without one, beside what is fixed."""
    unbound = trained(steps=1, bounds=replace(BOUNDS, fisher_budget=1e9, reach=reach), fixed=fixed).masked
    moved = torch.where(unbound.free, unbound.lattice.base, unbound.master)
    before = unbound.cost(moved)
    budget = before + share * (unbound.cost(unbound.master) - before)
    masked = trained(steps=1, bounds=replace(BOUNDS, fisher_budget=budget, reach=reach), fixed=fixed).masked
    assert masked.cost(masked.master) <= budget * (1 + 1e-4)
    limit = torch.maximum(masked.lattice.scale * reach, masked.lattice.base.abs())
    assert bool((masked.master.abs() <= limit * (1 + 1e-6))[masked.free].all())
    assert torch.equal(masked.master[~masked.free], unbound.master[~masked.free])
    if share > 1:
        assert torch.equal(masked.master, unbound.master)


def test_where_what_is_fixed_exceeds_the_budget_the_free_ones_stay_at_the_base() -> None:
    masked = trained(bounds=replace(BOUNDS, fisher_budget=1e-9), fixed=0.5).masked
    assert masked.moved[~masked.free].any()
    assert not masked.moved[masked.free].any()


def test_only_free_parameters_move_and_the_model_has_what_the_master_has() -> None:
    made = trained()
    masked = made.masked
    assert not masked.moved[~masked.free].any()
    assert bool(masked.moved[masked.free].any())
    assert torch.equal(made.layer.weight.view(-1)[masked.indices["l"]], masked.master)
    others = torch.ones(made.base.numel(), dtype=torch.bool)
    others[masked.indices["l"]] = False
    assert torch.equal(made.layer.weight.view(-1)[others], made.base.float().view(-1)[others])
