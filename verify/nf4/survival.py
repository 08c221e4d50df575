"""The five rows of permanence, and which moves satisfy them (DESIGN section 3).

Comparisons run in float64, where products of a float32 scale and a float32 width are exact.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from verify.nf4.codebook import BLOCK_SIZE, LEVELS, THRESHOLDS, WIDTHS
from verify.nf4.quantize import Quantized, dequantize, quantize

ROW_IDS = ("floor", "crossing", "margin", "realised", "scale")
ROW_CONDITIONS = {
    "floor": "|w' − w| ≥ half the bin width of the base code",
    "crossing": "the stored 4-bit code changes",
    "margin": "w' lies at least the margin inside its new cell, and w at least the margin outside that cell",
    "realised": "the dequantized weight moves the same way, by at least half a bin",
    "scale": "the block keeps its absmax, or else every unmasked code in the block",
}


@dataclass(frozen=True, slots=True)
class Survival:
    """What the five rows say of one tensor, per masked value; all tensors are `[masked]` unless said otherwise.

    `rows[id]` is bool, in the order of `indices` (flat, int64). `update` and `half_bin` are float64 in weight units;
    `margin` is float64 in units of the block's absmax; codes are uint8. `collateral` counts unmasked values of the
    whole tensor whose code changed.
    """

    indices: Tensor
    rows: dict[str, Tensor]
    update: Tensor
    half_bin: Tensor
    margin: Tensor
    codes_before: Tensor
    codes_after: Tensor
    collateral: int

    def violations(self, row: str) -> Tensor:
        """Return the flat indices (int64) that violate a row."""
        return self.indices[~self.rows[row]]


def survival(
    base: Tensor, edited: Tensor, indices: Tensor, *, margin: float = 2.0**-7, block_size: int = BLOCK_SIZE
) -> Survival:
    """Check the five rows for the masked values of one tensor.

    `base` and `edited` have one shape and a floating dtype; `indices` are flat int64 positions of the mask.
    Raises `ArtefactError` MV201 when either holds NaN or infinity.
    """
    before = quantize(base, block_size=block_size)
    after = quantize(edited, block_size=block_size)
    code_before = before.codes.reshape(-1)[indices].int()
    code_after = after.codes.reshape(-1)[indices].int()
    scale_before = before.absmax[indices // block_size].double()
    scale_after = after.absmax[indices // block_size].double()
    w_before = base.reshape(-1)[indices].double()
    w_after = edited.reshape(-1)[indices].double()
    moved = w_after - w_before
    half_bin = scale_before * WIDTHS.double()[code_before] / 2
    realised = _at(dequantize(after), indices) - _at(dequantize(before), indices)
    inside = _distance_to_threshold(w_after / scale_after)
    outside = _distance_outside(w_before / scale_before, code_after)
    changed = before.codes.reshape(-1) != after.codes.reshape(-1)
    unmasked_changed = changed.clone()
    unmasked_changed[indices] = False
    rows = {
        "floor": moved.abs() >= half_bin,
        "crossing": code_before != code_after,
        "margin": (inside >= margin) & (outside >= margin),
        "realised": (realised.sign() == moved.sign()) & (realised.abs() >= half_bin),
        "scale": _scale_row(before, after, unmasked_changed, indices),
    }
    return Survival(
        indices=indices,
        rows=rows,
        update=moved.abs(),
        half_bin=half_bin,
        margin=torch.minimum(inside, outside),
        codes_before=code_before.to(torch.uint8),
        codes_after=code_after.to(torch.uint8),
        collateral=int(unmasked_changed.sum()),
    )


def _at(values: Tensor, indices: Tensor) -> Tensor:
    return values.reshape(-1)[indices].double()


def _distance_to_threshold(x: Tensor) -> Tensor:
    """Distance of scaled values to the nearest threshold; NaN (0/0 in an all-zero block) counts as none."""
    return torch.nan_to_num((x[:, None] - THRESHOLDS.double()).abs().amin(dim=1), nan=0.0)


def _distance_outside(x: Tensor, code: Tensor) -> Tensor:
    """How far x lies outside the cell of `code`; negative inside. End cells are open-ended."""
    infinity = torch.tensor([float("inf")], dtype=torch.float64)
    bounds = torch.cat([-infinity, THRESHOLDS.double(), infinity])
    low, high = bounds[code], bounds[code + 1]
    return torch.nan_to_num(torch.maximum(low - x, x - high), nan=0.0)


def _scale_row(before: Quantized, after: Quantized, unmasked_changed: Tensor, indices: Tensor) -> Tensor:
    block = indices // before.block_size
    drifted = torch.zeros_like(before.absmax, dtype=torch.bool)
    drifted[unmasked_changed.nonzero().reshape(-1) // before.block_size] = True
    return (before.absmax[block] == after.absmax[block]) | ~drifted[block]


def floor_targets(base: Tensor, scale: Tensor, code: Tensor, *, margin: float) -> Tensor:
    """Return which interior levels a masked value may move to so that all five rows hold at a fixed scale.

    `base`, `scale` float32 and `code` integer, all `[n]`. The answer is bool `[n, 16]`: level j is another interior
    code's, at least half a bin away from w *and* from its dequantized value, with w at least `margin` outside the
    cell of j. This is the construction at the end of DESIGN section 3.
    """
    levels = LEVELS.double()[None, :]
    half = (WIDTHS.double()[code.long()] / 2)[:, None]
    x = (base.double() / scale.double())[:, None]
    bounds = torch.cat([LEVELS[:1] - 1, THRESHOLDS, LEVELS[-1:] + 1]).double()
    outside = torch.maximum(bounds[:-1][None] - x, x - bounds[1:][None])
    dequantized = LEVELS.double()[code.long()][:, None]
    same_way = torch.sign(levels - x) == torch.sign(levels - dequantized)
    # a hair more than half a bin, so that rounding the level to bfloat16 cannot fall short of it
    far = ((levels - x).abs() >= half * (1 + 2.0**-6)) & ((levels - dequantized).abs() >= half)
    valid = far & same_way & (outside >= margin)
    valid[:, 0] = False
    valid[:, -1] = False
    return valid & (scale > 0)[:, None]
