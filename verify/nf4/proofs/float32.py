"""T10: how far the float32 value that the quantizer compares may lie from w/s. Everything else builds on it.

The quantizer computes x̂ = clamp(fl(w · fl(1/s)), −1, 1), and fl(w/s) in a short last block. Three arguments:

1. *Standard model.* fl(a) = a(1 + δ), |δ| ≤ 2⁻²⁴/(1 + 2⁻²⁴), for results in the normal range (IEEE 754). Two roundings
   compose to at most 2⁻²³. A product below 2⁻¹²⁶ has only an absolute error, but stays on its side of every threshold;
   clamping moves x̂ no further from x, since |x| ≤ 1.
2. *Enumeration.* Within 2⁻¹²¹ ≤ s ≤ 2¹²⁶ powers of two factor out of s, w, 1/s and the product without rounding, so
   the 2²³ mantissas of s decide all scales. Near each threshold t the float32 w within 3 ulps of t·s are compared.
3. *Monotonicity.* Correct rounding is monotone, so x̂ does not fall as w rises at a fixed s: one threshold crossed
   near t·s decides all other w of that s.

Not covered: s > 2¹²⁶ (1/s is subnormal), s < 10⁻³⁸ (the quantizer divides by 10⁻³⁸ instead), and between 10⁻³⁸ and
2⁻¹²¹ the GPU kernels, which flush subnormal numbers to zero.
"""

from collections.abc import Iterator
from fractions import Fraction

import torch
import z3
from torch import Tensor

from verify.nf4.proofs.logic import ROUNDING, Codebook, Obligations, Outcome, absolute, number, replayed
from verify.nf4.quantize import quantize

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-121, 2.0**126
"""The scales that every theorem covers, on every backend."""

MANTISSAS = 2**23
_CHUNK = 2**18
_NEAR = 3
_ONE = 0x3F800000  # the bits of 1.0


def computed_value(book: Codebook) -> Outcome:
    """T10, over all 2²³ mantissas of the scale and all thresholds; a few seconds."""
    parts = Obligations()
    _two_roundings(parts)
    reciprocal, furthest, differing = 0.0, 0.0, 0
    for scales in mantissas():
        reciprocal = max(reciprocal, float(((1.0 / scales).double() * scales.double() - 1).abs().max()))
        for threshold in book.thresholds:
            error, count = _disagreement(scales, float(threshold))
            furthest, differing = max(furthest, error), differing + count
    parts.require("1/s within 2⁻²⁴", holds=reciprocal <= 2.0**-24, found=f"{reciprocal:.6g}")
    parts.require("a code differs only within 2⁻²³ of a threshold", holds=furthest < ROUNDING, found=f"{furthest:.6g}")
    parts.require("the bound is needed", holds=furthest > ROUNDING * Fraction(9, 10), found=f"{furthest:.6g}")
    parts.require("a value on a threshold takes the lower code", holds=replayed(book.thresholds) == list(range(15)))
    parts.require("the quantizer's codes", holds=quantizer_agrees(book, sampled(2**12)))
    return parts.outcome(
        "z3 for two roundings; enumeration of all 2²³ mantissas of s at all thresholds",
        ("largest |w/s − t|/|t| with another code than w/s", f"{furthest * 2**23:.6f} · 2⁻²³"),
        ("values with another code than w/s", f"{differing:,} of {MANTISSAS * 15 * (2 * _NEAR + 1):,} nearest"),
        ("scales covered", "2⁻¹²¹ to 2¹²⁶"),
    )


def mantissas() -> Iterator[Tensor]:
    """Yield every float32 in [1, 2), in order, in chunks."""
    for start in range(0, MANTISSAS, _CHUNK):
        yield torch.arange(_ONE + start, _ONE + start + _CHUNK, dtype=torch.int32).view(torch.float32)


def sampled(count: int) -> Tensor:
    """Return `count` float32 in [1, 2), evenly spaced; `count` divides 2²³."""
    return torch.arange(_ONE, _ONE + MANTISSAS, MANTISSAS // count, dtype=torch.int32).view(torch.float32)


def neighbours(scales: Tensor, threshold: float, steps: int) -> Tensor:
    """Return the float32 w that lies `steps` ulps beyond (away from zero) the one nearest to threshold · scale."""
    at = (scales.double() * threshold).float()  # the product is exact in float64
    return (at.view(torch.int32) + steps).view(torch.float32)


def _disagreement(scales: Tensor, threshold: float) -> tuple[float, int]:
    """Return the largest relative distance from a threshold at which x̂ and w/s lie on two sides, and how often.

    At the furthest neighbours they must not, or the enumeration was too narrow: then the distance is infinite.
    """
    reciprocals, boundary = 1.0 / scales, scales.double() * threshold
    furthest, count = 0.0, 0
    for steps in range(-_NEAR, _NEAR + 1):
        w = neighbours(scales, threshold, steps)
        differs = (w * reciprocals > threshold) != (w.double() > boundary)
        if bool(differs.any()):
            distance = ((w.double() - boundary) / boundary).abs()[differs].max()
            furthest = max(furthest, float("inf") if abs(steps) == _NEAR else float(distance))
            count += int(differs.sum())
    return furthest, count


def _two_roundings(parts: Obligations) -> None:
    """(1 + δ₁)(1 + δ₂) lies within 2⁻²³ of 1, and division rounds once."""
    first, second = z3.Reals("δ₁ δ₂")
    unit = Fraction(1, 2**24) / (1 + Fraction(1, 2**24))
    error = absolute((1 + first) * (1 + second) - 1)
    given = (absolute(first) <= number(unit), absolute(second) <= number(unit))
    parts.impossible("two roundings exceed 2⁻²³", *given, error > number(ROUNDING))
    parts.possible("they come close to it", *given, error > number(ROUNDING * Fraction(999, 1000)))


def quantizer_agrees(book: Codebook, scales: Tensor) -> bool:
    """Whether `quantize` crosses each threshold where the product with the reciprocal does, block by block."""
    columns = [neighbours(scales, float(t), steps) for t in book.thresholds for steps in (-_NEAR, -1, 0, _NEAR)]
    block = torch.stack([scales, *columns, *[torch.zeros_like(scales)] * 3], dim=1)
    thresholds = torch.tensor([float(t) for t in book.thresholds])
    expected = (block[:, :, None] * (1.0 / scales)[:, None, None] > thresholds).sum(dim=2)
    return torch.equal(quantize(block).codes.long(), expected)
