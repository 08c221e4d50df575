"""Valid values of masked parameters, and progressive snapping onto them (docs/floor.md).

A masked parameter may end at its base value (it is then not masked any more) or on a value that meets the five rows
under every deployment profile at once. Candidates are the interior levels at the scale of each block size; they are
rounded to the stored dtype before they are judged, by the rule that the verifier applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.nf4 import LEVELS, WIDTHS, quantize
from verify.nf4.dynamic import deployed_bounds
from verify.nf4.rows import CROSSING, FLOOR, MARGIN, REALISED, REALISED_DOUBLE, Geometry
from verify.nf4.survival import Scales, judge

CASTS = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Lattice:
    """The valid values of n parameters of one tensor.

    `base` and `scale` (of the smallest blocks) are float32 `[n]`, `width` float64 `[n]`: the bin width of the base's
    code there. `values` float32 `[n, k]`, as stored; `valid` bool `[n, k]`. `first` bool `[n, k]` says which of them
    would do if only the first geometry counted.
    """

    base: Tensor
    scale: Tensor
    width: Tensor
    values: Tensor
    valid: Tensor
    first: Tensor

    def nearest(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return each parameter's nearest valid value (its base value included) and the distance in scales."""
        distance = (weights[:, None] - self.values).abs().masked_fill(~self.valid, torch.inf)
        best, level = distance.min(dim=1)
        home = (weights - self.base).abs()
        stay = home <= best
        target = torch.where(stay, self.base, self.values.gather(1, level[:, None])[:, 0])
        return target, torch.minimum(home, best) / self.scale

    def least_moves(self, valid: Tensor) -> Tensor:
        """Return how far each parameter's nearest valid value is from its base value, in scales; only those with one.

        `valid` is `self.valid` or `self.first`: the difference is what holding for every geometry at once gives up.
        """
        move = (self.values - self.base[:, None]).abs().masked_fill(~valid, torch.inf).amin(1) / self.scale
        return move[torch.isfinite(move)]


def absmax_holders(weight: Tensor, *, block_size: int = 64) -> Tensor:
    """Return which values hold their block's absmax, bool of the weight's shape: those are never moved.

    The holder of a block also holds the smaller block it lies in, so the smallest block size covers all others.
    """
    return weight.detach().float().abs() >= quantize(weight, block_size=block_size).scales()


def lattice(weight: Tensor, indices: Tensor, *, geometries: Sequence[Geometry], margin: float) -> Lattice:
    """Return the valid values of the parameters at flat `indices` of a base weight in its stored dtype.

    The scales are those of the base: they hold as long as no holder of an absmax moves. Where one may (the floor
    `unfrozen`), values are judged as if they held.
    """
    base = weight.detach().reshape(-1)[indices].float()
    sizes = sorted({geometry.block_size for geometry in geometries})
    quantized = {size: quantize(weight, block_size=size) for size in sizes}
    scales = {size: quantized[size].absmax[indices // size] for size in sizes}
    codes = quantized[sizes[0]].codes.reshape(-1)[indices]
    width = WIDTHS.double()[codes.int()] * scales[sizes[0]].double()
    levels = LEVELS[1:-1]
    values = torch.cat([levels[None, :] * scales[size][:, None] for size in sizes], 1).to(weight.dtype).float()
    valid = torch.ones_like(values, dtype=torch.bool)
    first: Tensor | None = None
    for block_size, cast in dict.fromkeys((geometry.block_size, geometry.cast) for geometry in geometries):
        deployed = weight.detach().to(CASTS[cast] or weight.dtype)
        double = Geometry(block_size, True, cast) in geometries
        valid &= _survives(deployed, indices, values, block_size, double=double, margin=margin)
        first = valid.clone() if first is None else first
    assert first is not None, "at least one geometry"
    return Lattice(base, scales[sizes[0]], width, values, valid, first)


def _survives(
    weight: Tensor, indices: Tensor, values: Tensor, block_size: int, *, double: bool, margin: float
) -> Tensor:
    """Return which of the values `[n, k]` meet the rows at an interior code, in a weight as cast for deployment."""
    absmax = quantize(weight, block_size=block_size).absmax.numpy()
    block = (indices // block_size).numpy()
    n, k = values.shape
    scale = absmax[block].repeat(k)
    low, high = (bound.repeat(k) for bound in deployed_bounds(absmax, block)) if double else (scale, scale)
    divides = ((indices >= weight.numel() // block_size * block_size).numpy()).repeat(k)
    base = weight.reshape(-1)[indices].float().numpy().repeat(k)
    moved = values.to(weight.dtype).float().reshape(-1).numpy()
    found = judge(base, moved, Scales(scale, scale, low, low, high, high, divides), margin=margin)
    needed = FLOOR | CROSSING | MARGIN | REALISED | (REALISED_DOUBLE if double else 0)
    interior = (found.codes_after > 0) & (found.codes_after < 15)
    return torch.from_numpy(((found.rows & needed) == needed) & interior & (scale > 0)).reshape(n, k)


def snap(errors: Tensor, free: Tensor, share: float) -> Tensor:
    """Choose the `share` of the free parameters nearest to a valid value.

    `errors` float32 and `free` bool are `[n]` over the whole mask; returns bool `[n]`.
    """
    candidates = errors[free]
    if candidates.numel() == 0:
        return torch.zeros_like(free)
    rank = max(1, int(share * candidates.numel()))
    return free & (errors <= candidates.kthvalue(rank).values)
