"""Valid values of masked parameters, and progressive snapping onto them (DESIGN sections 3 and 4).

A masked parameter may end at its base value (it is then not masked any more) or on the level of another interior code
that meets the five rows. Values are rounded to the stored dtype before they are judged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from verify.nf4 import LEVELS, quantize
from verify.nf4.survival import floor_targets


@dataclass(frozen=True, slots=True)
class Lattice:
    """The valid values of n parameters of one tensor.

    `base` and `scale` are float32 `[n]`; `values` float32 `[n, 16]` (levels as stored); `valid` bool `[n, 16]`.
    """

    base: Tensor
    scale: Tensor
    values: Tensor
    valid: Tensor

    def nearest(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return each parameter's nearest valid value (its base value included) and the distance in scales."""
        distance = (weights[:, None] - self.values).abs().masked_fill(~self.valid, torch.inf)
        best, level = distance.min(dim=1)
        home = (weights - self.base).abs()
        stay = home <= best
        target = torch.where(stay, self.base, self.values.gather(1, level[:, None])[:, 0])
        return target, torch.minimum(home, best) / self.scale


def absmax_holders(weight: Tensor) -> Tensor:
    """Return which values hold their block's absmax, bool of the weight's shape: those are never moved."""
    return weight.detach().float().abs() >= quantize(weight).scales()


def lattice(weight: Tensor, indices: Tensor, *, margin: float) -> Lattice:
    """Return the valid values of the parameters at flat `indices` of a base weight in its stored dtype."""
    quantized = quantize(weight)
    base = weight.detach().reshape(-1)[indices].float()
    scale = quantized.scales().reshape(-1)[indices]
    code = quantized.codes.reshape(-1)[indices]
    values = (LEVELS[None, :] * scale[:, None]).to(weight.dtype).float()
    return Lattice(base, scale, values, floor_targets(base, scale, code, margin=margin))


def snap(errors: Tensor, free: Tensor, share: float) -> Tensor:
    """Choose the `share` of the free parameters nearest to a valid value.

    `errors` float32 and `free` bool are `[n]` over the whole mask; returns bool `[n]`.
    """
    candidates = errors[free]
    if candidates.numel() == 0:
        return torch.zeros_like(free)
    rank = max(1, int(share * candidates.numel()))
    return free & (errors <= candidates.kthvalue(rank).values)
