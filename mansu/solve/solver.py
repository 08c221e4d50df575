"""The schedule of an edit: train, lengthen, snap in portions with training between, and finish on the lattice.

Only masked parameters have an optimizer state and a float32 master; all others are never written. After each phase
the solver asserts that they are bit for bit the base's. Each masked one ends at its base value or on a
valid level; other floors, which are there to compare with, end elsewhere (`mansu.floor.fixing`). docs/solver.md says
what each step is for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mansu.floor.fixing import Floor
from mansu.mask.selection import Mask
from mansu.precision import Precision, products
from mansu.solve.compensation import compensate
from mansu.solve.finish.finishing import Finish, take_steps
from mansu.solve.frontier import FrontierPoint, Measurement, Stopping, Trials
from mansu.solve.masked import Bounds, Masked, fingerprint, masked_parameters
from mansu.solve.objective import Objective
from mansu.solve.train import Retention, train


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train and how to snap: after `steps`, each of `snaps` fixes that share of what is still free.

    Before the first snap training goes on by `steps_between` at a time, at most `extensions` times, while an edit
    snapped there would miss the target, or leave the answers a lead: what is forgotten is forgotten then, and what
    follows a snap repairs. It trains on the half of the forget prompts whose answers then lead most: the others are
    below their alternatives.
    The rate falls to `rate_after_snap` of itself at the first snap, to `rate_decay` of that at each further one.
    `floor` says how a parameter is fixed; floors other than `levels` are there to compare with, and train by the same
    rules.
    """

    steps: int = 16
    steps_between: int = 8
    extensions: int = 0
    learning_rate: float = 2e-3
    rate_after_snap: float = 0.6
    rate_decay: float = 0.6
    products: Precision = "float32"
    snaps: tuple[float, ...] = (0.6, 0.6, 0.6, 0.6, 1.0)
    floor: Floor = field(default_factory=Floor)


TRIAL_SNAPS = (0.5,) * 6 + (1.0,)
"""A trial with compensation snaps in portions: what is fixed last has nothing left that could make up for it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The solved edit: per layer, flat indices (int64, sorted) of changed parameters, their base and new values.

    Values are float32 that the stored dtype represents exactly. `fisher_cost` is ½ Σ F Δ² in nats.
    `least_move` is the mean distance from a masked parameter to its nearest valid value, in units of its block's
    absmax, and `least_move_first` what it would be if only the first geometry counted: the difference is what holding
    for all of them at once gave up. `frontier` holds every trial that led here.
    """

    indices: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    fisher_cost: float
    least_move: float
    least_move_first: float
    frontier: tuple[FrontierPoint, ...] = ()

    @property
    def size(self) -> int:
        """Return the number of changed parameters."""
        return sum(int(index.numel()) for index in self.indices.values())


def solve(
    model: Any,
    layers: Mapping[str, nn.Linear],
    stored: torch.dtype,
    mask: Mask,
    objective: Objective,
    retained: Retention,
    *,
    schedule: Schedule,
    bounds: Bounds,
    stopping: Stopping,
    after_snap: Callable[[int, int], None],
    finish: Finish | None = None,
    progress: Callable[[int], None],
) -> Edit:
    """Train the masked parameters of `model` (in place), snap them, and finish on the lattice; return the edit.

    Every snap but the last is followed by training, however soon the target is met: what is forgotten is forgotten
    before the first, and the others repair what is retained. `after_snap(still free, changed)` is called after each
    snap, `progress` after each training step.
    """
    chosen = {name: layers[name] for name in mask.indices}
    masked = masked_parameters(chosen, stored, mask, retained.fisher, bounds)
    trials = Trials(model, stopping, mask.parameters, whole=finish is not None and finish.frontier)
    untouched = fingerprint(chosen, mask)

    def training(steps: int, rate: float, on: Objective = objective) -> None:
        train(
            model,
            masked,
            on,
            retained,
            steps=steps,
            learning_rate=rate,
            bounds=bounds,
            precision=schedule.products,
            progress=progress,
        )

    def snapping(share: float) -> None:
        _snap(masked, share, schedule.floor, retained.moments, bounds.reach)

    def hold() -> None:
        assert fingerprint(chosen, mask) == untouched, "a parameter outside the mask moved"

    portions = (1.0,) if retained.moments is None else TRIAL_SNAPS
    training(schedule.steps, schedule.learning_rate)
    for _ in range(schedule.extensions):
        if not _misses_target(masked, trials, snapping, portions):
            break
        with products(schedule.products):
            lead = objective.leading(model)
        training(schedule.steps_between, schedule.learning_rate, lead)
    rate = schedule.learning_rate * schedule.rate_after_snap
    for share in schedule.snaps:
        snapping(share)
        hold()
        after_snap(int(masked.free.sum()), masked.changed)
        if not masked.free.any():
            break
        training(schedule.steps_between, rate)
        rate *= schedule.rate_decay
    hold()
    found = trials.measure(trials.target)
    trials.record("snap", masked.changed, found, kept=True)
    if finish is not None:
        take_steps(masked, trials, found, finish, budget=bounds.fisher_budget, hold=hold)
    return _edit(masked, trials.points)


def _misses_target(
    masked: Masked, trials: Trials, snapping: Callable[[float], None], portions: Sequence[float]
) -> bool:
    """Snap all on trial, ask in full precision, and undo it; return whether answers are still known, or still lead."""
    before = masked.state()
    for share in portions:
        snapping(share)
    found = trials.measure(trials.target) if trials.whole else Measurement(trials.stopping.accuracy(trials.model))
    missed = found.forget > trials.stopping.limit or not trials.stopping.lost(trials.model)
    trials.record("snap", masked.changed, found, kept=False)
    masked.restore(before)
    return missed


def _snap(masked: Masked, share: float, floor: Floor, moments: Mapping[str, Tensor] | None, reach: float) -> None:
    """Fix the free parameters that are nearest to a valid value there; a parameter may return to its base value.

    With `moments` the free parameters of the same rows make up for it (`mansu.solve.compensation`).
    """
    target, fixed = floor.fix(masked.lattice, masked.master, masked.free, share, stored=masked.stored)
    errors = torch.where(fixed, target - masked.master, 0.0)
    masked.master = torch.where(fixed, target, masked.master)
    masked.free = masked.free & ~fixed
    masked.first[fixed] = 0
    if moments is not None and fixed.any() and masked.free.any():
        compensate(masked, errors, moments, reach)
    masked.write()


def _edit(masked: Masked, points: Sequence[FrontierPoint]) -> Edit:
    changed = masked.moved
    indices, base, values = {}, {}, {}
    for name, part in masked.slices.items():
        kept = changed[part]
        if kept.any():
            indices[name] = masked.indices[name][kept]
            base[name] = masked.lattice.base[part][kept]
            values[name] = masked.master[part][kept]
    cost = masked.cost(masked.master)
    grid = masked.lattice
    jointly, alone = (float(grid.least_moves(valid).mean()) for valid in (grid.valid, grid.first))
    return Edit(indices, base, values, cost, jointly, alone, tuple(points))
