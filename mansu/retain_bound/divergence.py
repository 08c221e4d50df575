"""From logits to divergence: KL(base ‖ edited) at one position, bounded by the variance of the logits' change.

Theorem 1 of docs/retain-bound.md. With base logits z, changed by δ, p = softmax(z), X = δ − E_p δ and b = max X,
KL = log E_p e^X ≤ log(1 + φ(b) Var_p δ), φ(b) = (eᵇ − 1 − b)/b². All in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SLICE = 32  # positions at a time: a vocabulary of float64 is large


@dataclass(frozen=True, slots=True)
class Change:
    """The change of the next-token prediction at P positions, each float64 `[P]`.

    `divergence` KL(base ‖ edited) in nats, `deviation` the standard deviation of δ under the base, `rise` the largest
    δ less its mean under the base, `spread` the largest δ less the smallest.
    """

    divergence: Tensor
    deviation: Tensor
    rise: Tensor
    spread: Tensor

    def bound(self) -> Tensor:
        """Return Theorem 1's bound on `divergence`: the smaller of log(1 + φ(b) Var δ) and ⅛ spread²."""
        return torch.minimum(divergence_bound(self.deviation, self.rise), self.spread.square() / 8)


def growth(rise: Tensor) -> Tensor:
    """Return φ(b) = (eᵇ − 1 − b)/b² of b ≥ 0: ½ at 0, and increasing."""
    b = rise.double()
    near = b < 1e-3
    series = 0.5 + b / 6 + b.square() / 24
    safe = torch.where(near, torch.ones_like(b), b)
    return torch.where(near, series, (torch.expm1(safe) - safe) / safe.square())


def divergence_bound(deviation: Tensor, rise: Tensor) -> Tensor:
    """Return log(1 + φ(b) σ²), of anything at least as large as the deviation σ."""
    return torch.log1p(growth(rise) * deviation.double().square())


def change(base: Tensor, edited: Tensor) -> Change:
    """Compare logits `[P, vocabulary]` of the base with those of the edited model."""
    parts = [_change(base[i : i + _SLICE], edited[i : i + _SLICE]) for i in range(0, base.shape[0], _SLICE)]
    return Change(*(torch.cat([getattr(part, field) for part in parts]) for field in Change.__slots__))


def _change(base: Tensor, edited: Tensor) -> Change:
    p = base.double().softmax(-1)
    centred, deviation = _centred(p, edited.double() - base.double())
    # log E e^X from terms that are never negative: nothing cancels where the change is small
    divergence = torch.log1p((p * (torch.expm1(centred) - centred)).sum(-1))
    rise = centred.amax(-1).clamp(min=0)
    return Change(divergence, deviation, rise, centred.amax(-1) - centred.amin(-1))


def deviation(base: Tensor, direction: Tensor) -> Tensor:
    """Return the standard deviation of `direction` `[P, vocabulary]` under the base's prediction, float64 `[P]`."""
    slices = range(0, base.shape[0], _SLICE)
    return torch.cat(
        [_centred(base[i : i + _SLICE].double().softmax(-1), direction[i : i + _SLICE].double())[1] for i in slices]
    )


def _centred(p: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    centred = direction - (p * direction).sum(-1, keepdim=True)
    return centred, (p * centred.square()).sum(-1).sqrt()


def ceiling(head: Tensor, gain: Tensor) -> float:
    """Return the most that any edit below the final norm can change the divergence, in nats.

    `head` `[vocabulary, width]` reads what an RMS norm of `gain` `[width]` gives, which is no longer than
    √width · max |gain|; so max δ − min δ is at most (diameter of the head's rows) · 2 √width max |gain|, and KL at most
    that, and at most an eighth of its square.
    """
    rows = head.double()
    reach = float((rows - rows.mean(0)).norm(dim=1).max())  # the diameter is at most twice this
    spread = 2 * reach * 2 * float(gain.abs().max()) * math.sqrt(gain.numel())
    return min(spread, spread**2 / 8)
