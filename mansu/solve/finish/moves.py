"""Moves of masked parameters between valid values: what each is predicted to bring, and which measuring confirms.

A move is at least half a bin wide, so its slope alone says little: to first order the farthest level always looks best.
The prediction is of second order, g·d + ½ c h d², with the diagonal curvature h and a stiffness c that is corrected by
what was measured: it is 1 until a batch fails, and then whatever would have predicted that failure.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mansu.solve.masked import Masked

_SHARE = 0.05
"""The first batch, as a share of the changed parameters: large enough to matter, and halved when it fails."""

Measured = Callable[[], float]
"""The objective of the model as it stands, on fixed batches: smaller is better."""


@dataclass(frozen=True, slots=True)
class Slope:
    """The local model of an objective at the masked positions: gradient and curvature, float32 `[n]` each."""

    gradient: Tensor
    curvature: Tensor

    def change(self, step: Tensor, stiffness: float, places: Tensor | slice = slice(None)) -> Tensor:
        """Return the predicted change for steps `[m]` or `[m, k]` of the parameters at `places` `[m]`, each alone."""
        gradient, curvature = self.gradient[places], stiffness * self.curvature[places]
        if step.ndim > gradient.ndim:
            gradient, curvature = gradient[:, None], curvature[:, None]
        return step * (gradient + 0.5 * curvature * step)


Look = Callable[[], Slope]
"""The local model of the objective around the model as it stands."""


@dataclass(frozen=True, slots=True)
class Moves:
    """One move for each masked parameter: where to, and the predicted change of the objective, float32 `[n]` each.

    The change is infinite where a parameter has no such move.
    """

    targets: Tensor
    change: Tensor


def best_moves(masked: Masked, at: Slope, stiffness: float) -> Moves:
    """Return each parameter's best move to another of its valid values or to its base value."""
    grid, now = masked.lattice, masked.master
    values = torch.cat([grid.values, grid.base[:, None]], 1)
    allowed = torch.cat([grid.valid, torch.ones_like(grid.valid[:, :1])], 1) & (values != now[:, None])
    change = at.change(values - now[:, None], stiffness).masked_fill(~allowed, torch.inf)
    best, level = change.min(1)
    return Moves(values.gather(1, level[:, None])[:, 0], best)


def returns(masked: Masked, at: Slope, stiffness: float) -> Moves:
    """Return the move of each moved parameter back to its base value."""
    change = at.change(masked.lattice.base - masked.master, stiffness)
    return Moves(masked.lattice.base, change.masked_fill(~masked.moved, torch.inf))


@dataclass(frozen=True, slots=True)
class Proposals:
    """Groups of parameters that move together, best first, int64 `[p, w]`, and where each goes, float32 `[n]`."""

    places: Tensor
    targets: Tensor


Propose = Callable[[Slope, float], Proposals]
"""From the local model and the stiffness to proposals that it predicts to help."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What measuring left: the objective, how many proposals were kept, and what the next try starts with."""

    value: float
    kept: int
    batch: int
    stiffness: float = 1.0


def in_rounds(
    masked: Masked, propose: Propose, look: Look, measured: Measured, *, rounds: int, trials: int, budget: float
) -> tuple[float, Kept]:
    """Keep what helps, round by round, until one keeps nothing; each takes one gradient and at most `trials` trials.

    Returns the objective before, and what was kept.
    """
    before = measured()
    found = Kept(before, 0, max(1, int(_SHARE * masked.changed)))
    for _ in range(rounds):
        kept = found.kept
        found = keep_what_helps(masked, propose, look(), measured, found, trials=trials, budget=budget)
        if found.kept == kept:
            break
    return before, found


def keep_what_helps(
    masked: Masked, propose: Propose, at: Slope, measured: Measured, start: Kept, *, trials: int, budget: float
) -> Kept:
    """Apply proposals in batches; keep a batch only if the measured objective falls, else halve it and stiffen.

    A batch that the Fisher cost's `budget` has no room for counts as a failure. The model ends with exactly what was
    kept, and no parameter moves twice by one gradient.
    """
    value, batch, stiffness, kept = start.value, start.batch, start.stiffness, start.kept
    fresh = torch.ones_like(masked.free)
    for _ in range(trials):
        found = propose(at, stiffness)
        groups = found.places[fresh[found.places].all(1)][:batch]
        places = groups.reshape(-1)
        if not places.numel():
            break
        before = masked.master
        after = before.clone()
        after[places] = found.targets[places]
        measurement = torch.inf
        if masked.cost(after) <= max(budget, masked.cost(before)):
            masked.set(after)
            measurement = measured()
        if measurement < value:
            value, kept = measurement, kept + groups.shape[0]
            fresh[places] = False
            continue
        masked.set(before)
        stiffness = max(stiffness, _stiffness(at, after[places] - before[places], places, measurement - value))
        batch = max(1, batch // 2)
    return Kept(value, kept, batch, stiffness)


def _stiffness(at: Slope, step: Tensor, places: Tensor, change: float) -> float:
    """Return the stiffness that would have predicted a change; 0 where none can."""
    linear = float((at.gradient[places] * step).sum())
    bent = float((at.curvature[places] * step.square()).sum()) / 2
    return (change - linear) / bent if bent > 0 and change < torch.inf else 0.0
