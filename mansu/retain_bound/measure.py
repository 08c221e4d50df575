"""The bounds of one set of sequences, each constant by its definition, beside the change that they bound.

Theorems 1 to 3 of docs/retain-bound.md. The change is taken from the logits as they were computed, in float64 from
there on, so that rounding inside the models cannot make an inequality fail.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mansu.retain_bound.divergence import Change, change, deviation, divergence_bound, growth
from mansu.retain_bound.document import BlockGain, SetBound, Which
from mansu.retain_bound.edit import Edits
from mansu.retain_bound.passes import Batch, Listen, steps, tangent

_ROUNDING = 1e-9  # relative, of sums of float64


@dataclass(frozen=True, slots=True)
class Positions:
    """What was found at P positions of one set, float64: L edited decoder layers.

    `first` `[P]` is a = sd(JΔ), `rest` `[P]` r = sd(δ − JΔ), `stepwise` `[P, L]` sd(z⁽ˡ⁾ − z⁽ˡ⁻¹⁾), all under the base;
    `leaks` `[P, L]` is ‖ΔW X‖² over the position's whole sequence, at the base's inputs.
    """

    change: Change
    first: Tensor
    rest: Tensor
    stepwise: Tensor
    leaks: Tensor
    sequences: int

    def by_fisher(self) -> Tensor:
        """Return Theorem 2's bound at each position."""
        return divergence_bound(self.first + self.rest, self.change.rise)

    def by_layers(self) -> Tensor:
        """Return Theorem 3's bound at each position."""
        return divergence_bound(self.stepwise.sum(1), self.change.rise)


def measure(
    model: Any, edits: Edits, batches: Iterable[Batch], *, listen: Listen | None, progress: Callable[[int], None]
) -> Positions:
    """Run base, tangent, edited model and the steps between them over the batches; `progress` is called per batch."""
    parts = []
    for batch in batches:
        parts.append(_measure(model, edits, batch, listen))
        progress(1)
    fields = {field: torch.cat([getattr(part, field) for part in parts]) for field in _TENSORS}
    whole = Change(*(torch.cat([getattr(part.change, field) for part in parts]) for field in Change.__slots__))
    return Positions(change=whole, sequences=sum(part.sequences for part in parts), **fields)


_TENSORS = ("first", "rest", "stepwise", "leaks")


def _measure(model: Any, edits: Edits, batch: Batch, listen: Listen | None) -> Positions:
    base = tangent(model, edits, batch, listen)
    leaks, stepwise, before = [], [], base.logits
    for number, logits in steps(model, edits, batch, base.added):
        stepwise.append(deviation(base.logits, logits.double() - before.double()))
        leaks.append(
            sum(base.added[name].double().square().sum((1, 2)) for name in edits if edits[name].block == number)
        )
        before = logits
    rest = before.double() - base.logits.double() - base.derivative.double()
    squares = torch.stack([torch.as_tensor(leak) for leak in leaks], 1)
    return Positions(
        change=change(base.logits, before),
        first=deviation(base.logits, base.derivative),
        rest=deviation(base.logits, rest),
        stepwise=torch.stack(stepwise, 1),
        leaks=squares.repeat_interleave(batch.per_sequence, 0),
        sequences=batch.ids.shape[0],
    )


def bound(found: Positions, edits: Edits, which: Which, *, held_out: bool) -> SetBound:
    """Return the constants, the bounds and the measured change of one set."""
    quadratic, remainder = (float(value.square().mean().sqrt()) for value in (found.first, found.rest))
    phi = growth(found.change.rise)
    growth_fisher = mean_growth(phi, found.first + found.rest)
    growth_layers = mean_growth(phi, found.stepwise.sum(1))
    blocks = tuple(_gains(found, sorted({edit.block for edit in edits.values()})))
    by_fisher = growth_fisher * (quadratic + remainder) ** 2
    by_layers = growth_layers * sum(block.gain * block.leak for block in blocks) ** 2
    divergence, by_logits = found.change.divergence, found.change.bound()
    each = (by_logits, found.by_fisher(), found.by_layers())
    pairs = [(divergence, limit) for limit in each]
    pairs += [
        (divergence.mean(), torch.as_tensor(limit))
        for limit in (*(limit.mean() for limit in each), by_fisher, by_layers)
    ]
    return SetBound(
        which=which,
        held_out=held_out,
        sequences=found.sequences,
        positions=divergence.numel(),
        measured=float(divergence.mean()),
        worst=float(divergence.max()),
        by_logits=float(by_logits.mean()),
        by_fisher=by_fisher,
        by_layers=by_layers,
        each_fisher=float(each[1].mean()),
        each_layers=float(each[2].mean()),
        half_fisher=quadratic**2 / 2,
        remainder=remainder,
        growth_fisher=growth_fisher,
        growth_layers=growth_layers,
        rise=float(found.change.rise.max()),
        blocks=blocks,
        exceeded=sum(exceeded(measured, limit) for measured, limit in pairs),
    )


def exceeded(measured: Tensor, limit: Tensor) -> int:
    """Count where a measured value lies above its limit by more than float64 rounds."""
    return int((measured > limit * (1 + _ROUNDING) + 1e-15).sum())


def mean_growth(phi: Tensor, size: Tensor) -> float:
    """Return φ̄ = Σ φᵢsᵢ² / Σ sᵢ², so that mean φᵢsᵢ² = φ̄ · mean sᵢ²; ½ where every sᵢ is 0."""
    squares = size.square()
    total = float(squares.sum())
    return float((phi * squares).sum()) / total if total else 0.5


def _gains(found: Positions, numbers: Sequence[int]) -> Iterable[BlockGain]:
    leaks, moved = found.leaks.mean(0).sqrt(), found.stepwise.square().mean(0).sqrt()
    for number, leak, effect in zip(numbers, leaks.tolist(), moved.tolist(), strict=True):
        yield BlockGain(block=number, leak=leak, gain=effect / leak if leak else 0.0)
