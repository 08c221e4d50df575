"""Masked training with progressive snapping: ends with every masked parameter on a valid NF4 level (DESIGN section 4).

Only masked parameters have an optimizer state and a float32 master; all others are never written. After each phase
the solver asserts that they are bit for bit the base's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mansu.floors import Floor
from mansu.lattice import Lattice, lattice
from mansu.mask import Mask
from mansu.objective import Objective
from mansu.precision import Precision, products
from mansu.retain import NullSpace
from mansu.sampled import gradients_at
from verify.nf4.rows import Geometry


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train and how to snap: after `steps`, each of `snaps` fixes that share of what is still free.

    `floor` says how a parameter is fixed; all but the default are there to compare with, after as much training.
    """

    steps: int = 16
    steps_between: int = 8
    learning_rate: float = 2e-3
    rate_after_snap: float = 0.7
    products: Precision = "float32"
    snaps: tuple[float, ...] = (0.6, 0.6, 0.6, 0.6, 1.0)
    floor: Floor = field(default_factory=Floor)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an edit may not exceed: the Fisher budget in nats, the margin, and the reach within a block's absmax.

    `geometries` are the deployments that every edited parameter must survive at once.
    """

    geometries: tuple[Geometry, ...]
    fisher_budget: float = 0.05
    margin: float = 2.0**-7
    reach: float = 0.98


@dataclass(frozen=True, slots=True)
class Stopping:
    """How to tell that the edit is enough: `forgotten(model)` after NF4, and what `retained(model)` costs, in nats."""

    forgotten: Callable[[Any], bool]
    retained: Callable[[Any], float]
    tolerance: float = 1.25


@dataclass(frozen=True, slots=True)
class Edit:
    """The solved edit: per layer, flat indices (int64, sorted) of changed parameters, their base and new values.

    Values are float32 that the stored dtype represents exactly. `fisher_cost` is ½ Σ F Δ² in nats.
    `least_move` is the mean distance from a masked parameter to its nearest valid value, in units of its block's
    absmax, and `least_move_first` what it would be if only the first geometry counted: the difference is what holding
    for all of them at once gave up.
    """

    indices: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    fisher_cost: float
    least_move: float
    least_move_first: float

    @property
    def size(self) -> int:
        """Return the number of changed parameters."""
        return sum(int(index.numel()) for index in self.indices.values())


@dataclass(frozen=True, slots=True)
class _State:
    """Where the masked parameters stand, which are free, and their first moments, each `[n]`."""

    master: Tensor
    free: Tensor
    first: Tensor


@dataclass(slots=True)
class _Masked:
    """The masked parameters of all layers as flat vectors `[n]`: the optimizer's whole world."""

    stored: torch.dtype
    layers: Mapping[str, nn.Linear]
    indices: Mapping[str, Tensor]
    slices: Mapping[str, slice]
    lattice: Lattice
    fisher: Tensor
    master: Tensor
    free: Tensor
    first: Tensor
    second: Tensor
    count: int = 0

    @property
    def changed(self) -> int:
        """Return how many parameters differ from the base."""
        return int((self.master != self.lattice.base).sum())

    def state(self) -> _State:
        """Return what a trial may have to put back."""
        return _State(self.master, self.free, self.first.clone())

    def restore(self, state: _State) -> None:
        """Put an earlier state back, in the model too."""
        self.master, self.free, self.first = state.master, state.free, state.first.clone()
        self.write()

    def write(self) -> None:
        """Put the master values into the model."""
        with torch.no_grad():
            for name, layer in self.layers.items():
                flat = layer.weight.view(-1)
                flat[self.indices[name]] = self.master[self.slices[name]].to(flat.dtype)


def solve(
    model: Any,
    layers: Mapping[str, nn.Linear],
    stored: torch.dtype,
    mask: Mask,
    objective: Objective,
    fisher: Mapping[str, Tensor],
    null_space: NullSpace,
    *,
    schedule: Schedule,
    bounds: Bounds,
    stopping: Stopping,
    after_snap: Callable[[int, int], None],
    progress: Callable[[int], None],
) -> Edit:
    """Train the masked parameters of `model` (in place) and snap them; return the edit.

    `fisher` holds the diagonal Fisher of the masked parameters, float32 `[n]` by layer name.

    After each partial snap the rest is snapped on trial: where the target is met after NF4, and retention costs no
    more than `stopping.tolerance` times what it did, the solver stops there; else the trial is undone and training
    goes on. `after_snap(still free, changed)` is called after each snap, `progress` after each training step.
    """
    chosen = {name: layers[name] for name in mask.indices}
    masked = _masked(chosen, stored, mask, fisher, bounds)
    untouched = _fingerprint(chosen, mask)

    def training(steps: int, rate: float) -> None:
        train(model, masked, objective, null_space, steps, rate, bounds, schedule.products, progress)

    training(schedule.steps, schedule.learning_rate)
    for share in schedule.snaps:
        _snap(masked, share, schedule.floor)
        assert _fingerprint(chosen, mask) == untouched, "a parameter outside the mask moved"
        after_snap(int(masked.free.sum()), masked.changed)
        if not masked.free.any() or _enough(model, masked, schedule.floor, stopping):
            break
        training(schedule.steps_between, schedule.learning_rate * schedule.rate_after_snap)
    assert _fingerprint(chosen, mask) == untouched, "a parameter outside the mask moved"
    return _edit(masked)


def _enough(model: Any, masked: _Masked, floor: Floor, stopping: Stopping) -> bool:
    """Snap all that is free; keep that if it forgets enough and retains as well as before, else undo it."""
    before = masked.state()
    _snap(masked, 1.0, floor)
    if not stopping.forgotten(model):
        masked.restore(before)
        return False
    snapped, cost = masked.state(), stopping.retained(model)
    masked.restore(before)
    if cost > stopping.tolerance * stopping.retained(model):
        return False
    masked.restore(snapped)
    return True


def train(
    model: Any,
    masked: _Masked,
    objective: Objective,
    null_space: NullSpace,
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
            forget = gradients_at(lambda: objective.forget_loss(model), layers, places, null_space.project)
            retain = gradients_at(lambda: objective.retain_loss(model), layers, places)
        _adam(masked, forget + retain, learning_rate)
        _bound(masked, bounds)
        masked.write()
        progress(1)


def _adam(masked: _Masked, gradient: Tensor, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
    masked.count += 1
    masked.first.lerp_(gradient, 1 - betas[0])
    masked.second.lerp_(gradient.square(), 1 - betas[1])
    first = masked.first / (1 - betas[0] ** masked.count)
    second = masked.second / (1 - betas[1] ** masked.count)
    step = rate * first / (second.sqrt() + 1e-8)
    masked.master = torch.where(masked.free, masked.master - step, masked.master)


def _bound(masked: _Masked, bounds: Bounds) -> None:
    """Keep the free parameters within their blocks' reach, and shrink them until the Fisher cost meets its budget."""
    scale, base = masked.lattice.scale, masked.lattice.base
    limit = torch.where(base.abs() >= scale, scale, scale * bounds.reach)  # an absmax holder, where one is masked
    moved = torch.maximum(torch.minimum(masked.master, limit), -limit) - base
    cost = masked.fisher * moved.square() / 2
    fixed = float(cost[~masked.free].sum())
    free = float(cost[masked.free].sum())
    room = max(0.0, bounds.fisher_budget - fixed)
    shrink = min(1.0, (room / free) ** 0.5) if free > 0 else 1.0
    masked.master = torch.where(masked.free, base + shrink * moved, masked.master)


def _snap(masked: _Masked, share: float, floor: Floor) -> None:
    """Fix the free parameters that are nearest to a valid value there; a parameter may return to its base value."""
    target, fixed = floor.fix(masked.lattice, masked.master, masked.free, share, stored=masked.stored)
    masked.master = torch.where(fixed, target, masked.master)
    masked.free = masked.free & ~fixed
    masked.first[fixed] = 0
    masked.write()


def _masked(
    layers: Mapping[str, nn.Linear], stored: torch.dtype, mask: Mask, fisher: Mapping[str, Tensor], bounds: Bounds
) -> _Masked:
    parts = [
        lattice(layers[name].weight.to(stored), mask.indices[name], geometries=bounds.geometries, margin=bounds.margin)
        for name in layers
    ]
    starts = torch.tensor([0, *(part.base.numel() for part in parts)]).cumsum(0).tolist()
    whole = Lattice(*(torch.cat([getattr(part, field) for part in parts]) for field in Lattice.__slots__))
    n = whole.base.numel()
    return _Masked(
        stored=stored,
        layers=layers,
        indices=mask.indices,
        slices={name: slice(starts[i], starts[i + 1]) for i, name in enumerate(layers)},
        lattice=whole,
        fisher=torch.cat([fisher[name] for name in layers]),
        master=whole.base.clone(),
        free=torch.ones(n, dtype=torch.bool),
        first=torch.zeros(n),
        second=torch.zeros(n),
    )


def _fingerprint(layers: Mapping[str, nn.Linear], mask: Mask) -> Sequence[int]:
    """Sum the bit patterns outside the mask: cheap, and any single change shows."""
    sums = []
    for name, layer in layers.items():
        bits = layer.weight.detach().view(torch.int16 if layer.weight.element_size() == 2 else torch.int32).reshape(-1)
        sums.append(int(bits.sum(dtype=torch.int64)) - int(bits[mask.indices[name]].sum(dtype=torch.int64)))
    return sums


def _edit(masked: _Masked) -> Edit:
    changed = masked.master != masked.lattice.base
    moved = masked.master - masked.lattice.base
    indices, base, values = {}, {}, {}
    for name, part in masked.slices.items():
        kept = changed[part]
        if kept.any():
            indices[name] = masked.indices[name][kept]
            base[name] = masked.lattice.base[part][kept]
            values[name] = masked.master[part][kept]
    cost = float((masked.fisher * moved.square()).sum() / 2)
    grid = masked.lattice
    jointly, alone = (float(grid.least_moves(valid).mean()) for valid in (grid.valid, grid.first))
    return Edit(indices, base, values, cost, jointly, alone)
