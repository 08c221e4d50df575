"""Masked training: Adam on the free masked parameters alone (docs/solver.md).

Forgetting is projected away from what is retained (`mansu.retain.null_space`), half of what is retained is retained
after NF4 (`mansu.solve.deployed`), and after every step the free parameters are put back within the Fisher budget and
their blocks' reach.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mansu.precision import Precision, products
from mansu.retain.null_space import NullSpace
from mansu.solve.deployed import Deployed
from mansu.solve.masked import Bounds, Masked
from mansu.solve.objective import Objective
from mansu.solve.sampled import gradients_at


@dataclass(frozen=True, slots=True)
class Retention:
    """What retention binds the solver to, by layer name.

    Training reads `null_space` and `deployed`; the others are for the budget and for snaps.
    `fisher` is the diagonal Fisher at the masked parameters, float32 `[n]`; `moments` the second moments of the retain
    inputs, float32 `[in, in]`, or None for snaps without compensation. With `deployed` half of what is retained in
    training is retained after NF4.
    """

    fisher: Mapping[str, Tensor]
    null_space: NullSpace
    moments: Mapping[str, Tensor] | None = None
    deployed: Deployed | None = None


def train(
    model: Any,
    masked: Masked,
    objective: Objective,
    retained: Retention,
    *,
    steps: int,
    learning_rate: float,
    bounds: Bounds,
    precision: Precision,
    progress: Callable[[int], None],
) -> None:
    """Take Adam steps on the free masked parameters, within the null space, the Fisher budget and the block's reach."""
    for _ in range(steps):
        layers, places = masked.layers, masked.indices
        with products(precision):
            forget = gradients_at(lambda: objective.forget_loss(model), layers, places, retained.null_space.project)
            retain = _retain_gradient(model, masked, objective, retained.deployed)
        _adam(masked, forget + retain, learning_rate)
        _bound(masked, bounds)
        masked.write()
        progress(1)


def _retain_gradient(model: Any, masked: Masked, objective: Objective, deployed: Deployed | None) -> Tensor:
    """Return the gradient of the retain terms in full precision; with `deployed`, its mean with that after NF4."""
    layers, places = masked.layers, masked.indices
    full = gradients_at(lambda: objective.retain_loss(model), layers, places)
    if deployed is None:
        return full
    deployed.follow(masked)
    with deployed.shown():
        after = gradients_at(lambda: objective.retain_loss(model, deployed.retained), layers, places)
    return (full + after) / 2


def _adam(masked: Masked, gradient: Tensor, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
    masked.count += 1
    masked.first.lerp_(gradient, 1 - betas[0])
    masked.second.lerp_(gradient.square(), 1 - betas[1])
    first = masked.first / (1 - betas[0] ** masked.count)
    second = masked.second / (1 - betas[1] ** masked.count)
    step = rate * first / (second.sqrt() + 1e-8)
    masked.master = torch.where(masked.free, masked.master - step, masked.master)


def _bound(masked: Masked, bounds: Bounds) -> None:
    """Keep the free parameters within their blocks' reach, and shrink their moves until the Fisher budget is met.

    What is fixed counts too: where that alone exceeds the budget, the free ones are put back to the base.
    """
    scale, base = masked.lattice.scale, masked.lattice.base
    limit = torch.where(base.abs() >= scale, scale, scale * bounds.reach)  # an absmax holder, where one is masked
    within = torch.maximum(torch.minimum(masked.master, limit), -limit)
    moved = torch.where(masked.free, within, masked.master) - base
    cost = masked.fisher * moved.square() / 2
    fixed = float(cost[~masked.free].sum())
    free = float(cost[masked.free].sum())
    room = max(0.0, bounds.fisher_budget - fixed)
    shrink = min(1.0, (room / free) ** 0.5) if free > 0 else 1.0
    masked.master = torch.where(masked.free, base + shrink * moved, masked.master)
