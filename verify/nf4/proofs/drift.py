"""T6, T9 and T11: what the margin row protects against. Every claim is about the side of a threshold.

A code is the number of thresholds strictly below the computed value, so a value that keeps its side of every threshold
keeps its code; and a base value that keeps its side of the new cell's thresholds never meets the new code. Both halves
of the margin row follow from: *a value at least m from a threshold stays on its side*.
"""

from fractions import Fraction
from itertools import pairwise

import torch
import z3

from verify.nf4.proofs.logic import (
    MARGIN,
    ROUNDING,
    Codebook,
    Obligations,
    Outcome,
    absolute,
    exact,
    number,
    scientific,
    within,
)
from verify.nf4.proofs.moves import UNIT_ROUNDOFF
from verify.nf4.quantize import quantize
from verify.nf4.survival import survival

KERNEL_THRESHOLDS = (
    -0.8480964004993439,
    -0.6106329262256622,
    -0.4599952697753906,
    -0.33967943489551544,
    -0.23460740596055984,
    -0.13791173323988914,
    -0.045525018125772476,
    0.03979014977812767,
    0.1202552504837513,
    0.2035212516784668,
    0.2920137718319893,
    0.3893125355243683,
    0.5016634166240692,
    0.6427869200706482,
    0.8614784181118011,
)
"""The decimals in the comparison trees of bitsandbytes: `dQuantizeNF4` in csrc/kernels.cu (CUDA, HIP) and
`quantize_nf4_blockwise_kernel` in backends/triton/kernels_4bit.py."""

BACKENDS = (
    ("CPU: product with the rounded reciprocal", ROUNDING),
    ("CPU: division in the short last block", Fraction(1, 2**24)),
    # built with --use_fast_math: the division is within 2 ulp, then one rounding
    ("CUDA, HIP: product with an approximate reciprocal", Fraction(1, 2**22) + Fraction(1, 2**24) + Fraction(1, 2**46)),
    # div.full.f32 is within 2 ulp
    ("Triton (XPU): approximate division", Fraction(1, 2**22)),
)
"""How each backend of bitsandbytes 0.50 computes w/s, and the relative error that its arithmetic is specified to."""

BACKEND_ERROR = Fraction(1, 2**21)
FLUSHED = Fraction(1, 2**5)
"""A GPU may replace a subnormal w by zero; at s ≥ 2⁻¹²¹ such a w has |w/s| below this, and zero has its code."""

_X, _X_HAT, _RATIO, _MARGIN = z3.Reals("x x̂ ratio m")


def scale_drift(book: Codebook) -> Outcome:
    """T6, symbolic in m. With r = s′/s the new value is x/r, and x̂′ > t is r·x̂′ > r·t, which is linear."""
    parts = Obligations()
    top = book.largest
    scaled = z3.Real("r·x̂′")
    # the error is largest for the value just beyond the largest threshold
    tolerated = _MARGIN - number(ROUNDING) * (number(top) + _MARGIN)
    drift = absolute(_RATIO - 1) * number(top)
    crossing = z3.Or(*(_crosses(_X, number(t), _MARGIN, scaled, number(t) * _RATIO) for t in book.thresholds))
    given = (_MARGIN > 0, _RATIO > 0, absolute(_X) <= 1, within(scaled, _X))
    parts.impossible("a smaller drift crosses", *given, drift < tolerated, crossing)
    parts.possible("that drift crosses", *given, drift == tolerated, number(MARGIN) == _MARGIN, crossing)
    at = (MARGIN - ROUNDING * (top + MARGIN)) / top
    return parts.outcome(
        "z3 over exact rationals, m and s′/s symbolic",
        ("|s′/s − 1| below", f"(m − 2⁻²³·({float(top):.6g} + m)) / {float(top):.6g}"),
        ("at m = 2⁻⁷", scientific(at)),
    )


def cast(book: Codebook) -> Outcome:
    """T9: w and the absmax are both rounded, each by at most half an ulp of the absmax's power of two.

    In units of that power of two, s = S ∈ [1, 2) and w = M; the cast moves both by at most u, also where w is
    subnormal in the format. Hence the scales covered: from the format's smallest normal number (2⁻¹²⁶ or 2⁻¹⁴; on a
    GPU 2⁻¹²¹) to 2¹²⁶ or 65504. Rounding is monotone and odd, so the holder's rounded value is the new absmax.
    """
    parts = Obligations()
    constants: list[tuple[str, str]] = []
    shown = ""
    for name in ("bfloat16", "float16"):
        roundoff = UNIT_ROUNDOFF[name]
        least = roundoff + book.largest * (roundoff + ROUNDING) / (1 - ROUNDING)
        parts.impossible(f"{name}: a value crosses", *_cast_crosses(book, roundoff, least, strict=True))
        parts.possible(f"{name}: a smaller margin fails", *_cast_crosses(book, roundoff, least, strict=False))
        parts.require(f"{name}: 2⁻⁷ suffices", holds=least < MARGIN, found=scientific(least))
        reached, w, s = _closest_cast(book, roundoff, getattr(torch, name))
        parts.require(f"{name}: the cast of a real block crosses", holds=reached <= least, found=scientific(reached))
        constants += [(f"margin above which {name} is safe", scientific(least))]
        constants += [(f"margin at which a block in {name} crosses", scientific(reached))]
        shown = shown or f"in bfloat16 at margin {scientific(reached)}: w = {w!r}, absmax {s!r}"
    return parts.outcome(
        "z3 over exact rationals; blocks enumerated and replayed on the quantizer", *constants, edge=shown
    )


def _cast_crosses(book: Codebook, roundoff: Fraction, margin: Fraction, *, strict: bool) -> tuple[z3.BoolRef, ...]:
    """Say that a value more than (or at least) a margin from a threshold is on its other side after the cast."""
    s, w, s_cast, w_cast, compared = z3.Reals("S M S′ M′ S′·x̂′")

    def crosses(threshold: Fraction) -> z3.BoolRef:
        above, below = w - number(threshold + margin) * s, number(threshold - margin) * s - w
        t = number(threshold) * s_cast
        far = (above > 0, below > 0) if strict else (above >= 0, below >= 0)
        return z3.Or(z3.And(far[0], compared <= t), z3.And(far[1], compared > t))

    return (
        s >= 1,
        s <= 2,
        absolute(w) <= s,
        absolute(w_cast - w) <= number(roundoff),
        absolute(s_cast - s) <= number(roundoff),
        within(compared, w_cast),
        z3.Or(*(crosses(t) for t in book.thresholds)),
    )


def _closest_cast(book: Codebook, roundoff: Fraction, dtype: torch.dtype) -> tuple[Fraction, float, float]:
    """Return the largest margin at which some block really changes its code in a format, with its w and s.

    Enumerates the absmax's mantissas n at the format's smallest normal exponent, where w is subnormal and shares its
    grid: s just above n − ½ rounds up to n, w just below k + ½ rounds down to k, and k/n lies on or below t.
    """
    grid = 2 * roundoff * Fraction(torch.finfo(dtype).smallest_normal)
    tiny = Fraction(1, 2**9)
    best: tuple[Fraction, Fraction, Fraction] = (Fraction(0), grid, grid)
    for n in range(int(1 / (2 * roundoff)) + 1, int(1 / roundoff)):
        for t in book.thresholds[7:]:
            w, s = (t * n) // 1 + Fraction(1, 2) - tiny, n - Fraction(1, 2) + tiny
            if w / s - t > best[0] and w < s:
                best = (w / s - t, w * grid, s * grid)
    margin, w, s = best
    block = torch.zeros(64)
    block[:2] = torch.tensor([float(s), float(w)])
    before, after = quantize(block).codes[1], quantize(block.to(dtype)).codes[1]
    return (margin if before != after else Fraction(1)), float(w), float(s)


def backends(book: Codebook) -> Outcome:
    """T11: thresholds are the same bit for bit, so backends differ by the error of w/s alone, and by 0/0."""
    parts = Obligations()
    _same_codebook(parts, book)
    worst = max(error for _, error in BACKENDS)
    parts.require("every backend is within 2⁻²¹", holds=worst <= BACKEND_ERROR, found=scientific(worst))
    tolerated = MARGIN / (book.largest + MARGIN)

    def crossing(error: Fraction, margin: Fraction) -> tuple[z3.BoolRef, ...]:
        zero = z3.And(absolute(_X) < number(FLUSHED), _X_HAT == 0)
        return (
            absolute(_X) <= 1,
            z3.Or(within(_X_HAT, _X, error), zero),
            z3.Or(*(_crosses(_X, number(t), number(margin), _X_HAT, number(t)) for t in book.thresholds)),
        )

    parts.impossible("a smaller error crosses", *crossing(tolerated - Fraction(1, 2**40), MARGIN))
    parts.possible("that error crosses", *crossing(tolerated, MARGIN))
    parts.impossible("kernels differ further than 2⁻²¹ from every threshold", *crossing(BACKEND_ERROR, BACKEND_ERROR))
    parts.require("the margin row refuses 0/0", holds=_zero_blocks_have_no_margin())
    return parts.outcome(
        "z3 over exact rationals; kernels' thresholds bit for bit",
        ("relative error tolerated at m = 2⁻⁷", scientific(tolerated)),
        ("relative error of any kernel, at most", scientific(worst)),
        ("kernels agree when no threshold is within", scientific(BACKEND_ERROR)),
        ("scales covered", "2⁻¹²¹ to 2¹²⁶; subnormal w may be flushed to zero"),
    )


def _same_codebook(parts: Obligations, book: Codebook) -> None:
    """Require the float32 numbers that kernels hard-code, thresholds as rounded midpoints, widths as distances."""
    from bitsandbytes.functional import get_4bit_type  # noqa: PLC0415  (takes a second to import)

    hard_coded = exact(torch.tensor(KERNEL_THRESHOLDS, dtype=torch.float32))
    middles = [(a + b) / 2 for a, b in pairwise(book.levels)]
    lengths = [b - a for a, b in pairwise((book.levels[0], *book.thresholds, book.levels[-1]))]
    parts.require("the kernels' thresholds are others", holds=hard_coded == book.thresholds)
    levels = exact(get_4bit_type("nf4", device="cpu"))  # type: ignore[no-untyped-call]
    parts.require("the kernels' levels are others", holds=levels == book.levels)
    parts.require("a threshold is no rounded midpoint", holds=book.thresholds == _rounded(middles))
    parts.require("a width is no rounded distance", holds=book.widths == _rounded(lengths))


def _rounded(values: list[Fraction]) -> tuple[Fraction, ...]:
    # float64 holds a sum or difference of two float32 of these sizes exactly, so it is rounded once
    return exact(torch.tensor([float(value) for value in values], dtype=torch.float64).float())


def _zero_blocks_have_no_margin() -> bool:
    """Whether the margin row fails for a value whose block is all zero before or after: its code is the backend's."""
    zero, block, index = torch.zeros(64), torch.zeros(64), torch.tensor([1])
    block[:2] = torch.tensor([1.0, -0.5250730514526367])
    found = (survival(zero, block, index), survival(block, zero, index), survival(zero, zero, index))
    return not any(bool(each.rows["margin"][0]) for each in found)


def _crosses(
    x: z3.ArithRef, threshold: z3.ArithRef, margin: z3.ArithRef, compared: z3.ArithRef, against: z3.ArithRef
) -> z3.BoolRef:
    """Say that x is at least a margin from a threshold and that what is compared instead is on the other side."""
    return z3.Or(
        z3.And(x >= threshold + margin, compared <= against), z3.And(x <= threshold - margin, compared > against)
    )
