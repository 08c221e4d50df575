"""T1 to T5 and T12: which moves of a value change its code while the block's scale stays as it is.

x and x′ are the exact w/s before and after, x̂ and x̂′ what the quantizer compares instead (`logic.within`). Claims are
proved for every cell at the stated constant and refuted just below it, so no constant here can be improved.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import z3

from verify.nf4.proofs.logic import (
    MARGIN,
    ROUNDING,
    Codebook,
    Obligations,
    Outcome,
    absolute,
    find,
    foot,
    in_cell,
    number,
    reach,
    replayed,
    scientific,
    within,
)

GRID = 2**24
"""Multiples of 1/GRID in [−1, 1] are float32 numbers, so counterexamples on it replay on the quantizer."""

HAIR = Fraction(1, 2**40)
"""How far below its constant a claim is refuted."""

UNIT_ROUNDOFF = {"float32": Fraction(1, 2**24), "float16": Fraction(1, 2**11), "bfloat16": Fraction(1, 2**8)}
"""Half an ulp in units of the power of two at or below the absmax; rounding moves no value of the block further."""

SLACK = 1 + Fraction(1, 2**5)
"""Half bins that `verify.nf4.survival.floor_targets` must ask for between a value and its target: rounding the target
to bfloat16 can take more than 1/64 of them."""

_X, _X_HAT, _Y, _Y_HAT = z3.Reals("x x̂ x′ x̂′")
_EXACT = "z3 over exact rationals, every x̂ within 2⁻²³ of w/s"
_REPLAYED = "z3 over exact rationals, replayed on verify.nf4.quantize"


def half_bin_any_direction(book: Codebook) -> Outcome:
    """T1: refuted in every cell, even with 1 − 2⁻¹⁰ of the bin width, so T4's whole bin is the least that works."""
    almost = 1 - Fraction(1, 2**10)
    return _kept(book, range(16), lambda code, move: move >= number(book.widths[code] * almost))


def half_bin_in_end_cells(book: Codebook) -> Outcome:
    """T3: refuted in both end cells: their only threshold may be a whole bin away."""

    def inward(code: int, move: z3.ArithRef) -> z3.BoolRef:
        return (move if code == 0 else -move) >= number(book.widths[code] / 2)

    return _kept(book, (0, 15), inward)


def _kept(book: Codebook, codes: Sequence[int], moves: Callable[[int, z3.ArithRef], z3.BoolRef]) -> Outcome:
    """Refute 'such a move changes the code' by one replayed pair of values in each of the given cells."""
    x, y, grid = *_grid_values(), number(Fraction(GRID))
    pairs: list[tuple[int, Fraction, Fraction]] = []
    for code in codes:
        found = find(
            in_cell(book, x / grid, code), in_cell(book, y / grid, code), moves(code, (y - x) / grid), *_unit(x, y)
        )
        if found is not None:
            pairs.append((code, found["x"] / GRID, found["x′"] / GRID))
    if not pairs:
        return Outcome("proved", _REPLAYED)
    for code, before, after in pairs:
        if replayed((before, after)) != [code, code]:
            return Outcome("undecided", _REPLAYED, f"x = {before} and x′ = {after} do not both have code {code}")
    code, before, after = pairs[len(pairs) // 2]
    bins = abs(after - before) / book.widths[code]
    shown = (
        f"code {code}: x = {float(before):.9g} moves to x′ = {float(after):.9g},"
        f" {float(bins):.4f} bin widths, and keeps its code"
    )
    return Outcome("refuted", _REPLAYED, shown, (("cells with a counterexample", f"{len(pairs)} of {len(codes)}"),))


def _grid_values() -> tuple[z3.ArithRef, z3.ArithRef]:
    return z3.ToReal(z3.Int("x")), z3.ToReal(z3.Int("x′"))


def _unit(x: z3.ArithRef, y: z3.ArithRef) -> tuple[z3.BoolRef, ...]:
    return (x >= -GRID, x <= GRID, y >= -GRID, y <= GRID)


def half_bin_to_nearest(book: Codebook) -> Outcome:
    """T2, with the exact rounding error beyond half a bin that it needs."""
    parts = Obligations()
    middles = {code: _middle(book, code) for code in range(1, 15)}
    excess = max(
        max(reach(_bounds(book, code)[1]) - middle, middle - foot(_bounds(book, code)[0])) - book.widths[code] / 2
        for code, middle in middles.items()
    )

    def kept(least: Fraction) -> list[z3.BoolRef]:
        # toward the nearest threshold, and still in the cell
        return [
            z3.And(
                _stays(book, code),
                z3.If(number(middle) <= _X, _Y - _X, _X - _Y) > number(book.widths[code] / 2 + least),
            )
            for code, middle in middles.items()
        ]

    parts.require("no more than a rounding error", holds=excess <= ROUNDING, found=_ulps(excess))
    parts.impossible("a longer move keeps its code", *_computed(), z3.Or(*kept(excess)))
    parts.possible("the rounding error is needed", *_computed(), z3.Or(*kept(excess - HAIR)))
    return parts.outcome(_EXACT, ("more than half a bin by", _ulps(excess)), edge=_half_bin_edge(book))


def _half_bin_edge(book: Codebook) -> str:
    """Return a move of exactly half a bin that ends on the threshold, or nothing if none lies on the grid."""
    for code in range(1, 15):
        _, high = _bounds(book, code)
        before, after = _middle(book, code), high
        on_grid = all((value * GRID).denominator == 1 for value in (before, after))
        if on_grid and after - before >= book.widths[code] / 2 and replayed((before, after)) == [code, code]:
            return (
                f"at exactly half a bin, code {code}: x = {float(before):.9g} moves up to the threshold"
                f" {float(after):.9g} and keeps its code"
            )
    return ""


def whole_bin(book: Codebook) -> Outcome:
    """T4, with the exact rounding error beyond a whole bin that it needs."""
    parts = Obligations()
    excess = max(_length(book, code) - book.widths[code] for code in range(16))

    def kept(least: Fraction) -> list[z3.BoolRef]:
        return [z3.And(_stays(book, code), absolute(_Y - _X) > number(book.widths[code] + least)) for code in range(16)]

    parts.require("no more than two rounding errors", holds=excess <= 2 * ROUNDING, found=_ulps(excess))
    parts.impossible("a longer move keeps its code", *_computed(), z3.Or(*kept(excess)))
    parts.possible("the rounding error is needed", *_computed(), z3.Or(*kept(excess - HAIR)))
    first = book.thresholds[0]
    parts.require("from −1 to the first threshold is exactly a bin", holds=first + 1 == book.widths[0])
    parts.require("it keeps its code", holds=replayed((Fraction(-1), first)) == [0, 0])
    edge = f"at exactly a bin: x = −1 moves to the threshold {float(first):.9g} and keeps code 0"
    return parts.outcome(_EXACT, ("more than a bin by", _ulps(excess)), edge=edge)


def snapping(book: Codebook) -> Outcome:
    """T5 for each format that weights come in: the level is rounded to it, by at most half an ulp of the absmax."""
    parts = Obligations()
    half, level = min((b - a, max(abs(a), abs(b))) for a, b in pairwise(book.levels))
    half /= 2
    constants = [("half the smallest spacing", scientific(half))]
    for name in UNIT_ROUNDOFF:
        margin = half - level_error(level, name)

        def closer(than: Fraction, name: str = name) -> z3.BoolRef:
            return z3.Or(
                *(z3.And(_snapped(book, code, name), _near_threshold(book, code, than)) for code in range(1, 15))
            )

        parts.impossible(f"{name}: a threshold is closer", closer(margin))
        parts.possible(f"{name}: the margin is reached", closer(margin + HAIR))
        parts.require(f"{name}: the margin exceeds the policy's", holds=margin > MARGIN, found=scientific(margin))
        constants.append((f"margin in {name}", scientific(margin)))
    return parts.outcome(_EXACT, *constants)


def construction(book: Codebook) -> Outcome:
    """T12: all five rows for every pair of codes and every margin up to T5's smallest, in any format."""
    parts = Obligations()
    half = min(b - a for a, b in pairwise(book.levels)) / 2
    largest = half - level_error(half * 2, "float16")
    margin = z3.Real("m")
    for code in range(16):
        cases = z3.Or(*(_broken(book, code, target, margin, slack=SLACK) for target in range(1, 15)))
        parts.impossible(f"from code {code}", *_computed(), margin > 0, margin <= number(largest), cases)
    neighbours = z3.Or(*(_broken(book, code, 8, margin, slack=SLACK) for code in (7, 9)))
    parts.possible("a larger margin would fail", *_computed(), margin == number(largest + HAIR), neighbours)
    less = z3.Or(*(_broken(book, 13, target, margin, slack=1 + (SLACK - 1) / 2) for target in range(1, 15)))
    parts.possible("half the slack would fail", *_computed(), margin == number(MARGIN), less)
    return parts.outcome(
        _EXACT,
        ("margins up to", scientific(largest)),
        ("distance of value and target, in half bins", f"at least {float(SLACK)}; {float(1 + (SLACK - 1) / 2)} fails"),
    )


def _broken(book: Codebook, code: int, target: int, margin: z3.ArithRef, *, slack: Fraction) -> z3.BoolRef:
    """Say that a value of a code, moved to a target that the rule selects, breaks one of the five rows."""
    half = number(book.widths[code] / 2)
    before, after = z3.Reals("deq deq′")
    return z3.And(
        in_cell(book, _X_HAT, code),
        selected(book, code, target, _X, margin, slack=slack),
        z3.Or(_snapped(book, target, "bfloat16"), _snapped(book, target, "float16")),
        within(before, number(book.levels[code]), UNIT_ROUNDOFF["float32"]),
        within(after, number(book.levels[target]), UNIT_ROUNDOFF["float32"]),
        z3.Or(
            absolute(_Y - _X) < half,  # floor
            z3.Not(in_cell(book, _Y_HAT, target)),  # crossing: the new code is the target's, and was not before
            in_cell(book, _X_HAT, target),
            *(absolute(_Y - number(t)) < margin for t in book.thresholds),  # margin; its second half is given
            absolute(after - before) < half,  # realised
            (after > before) != (_Y > _X),
            absolute(_Y) >= 1,  # scale: the holder stays the largest
        ),
    )


def selected(
    book: Codebook, code: int, target: int, x: z3.ArithRef, margin: z3.ArithRef, *, slack: Fraction
) -> z3.BoolRef:
    """Say that `floor_targets` offers a value x of a code the level of another (docs/floor.md)."""
    level, half = book.levels[target], book.widths[code] / 2
    low, high = _bounds(book, target)
    up = level > book.levels[code]
    return z3.And(
        target != code,
        abs(level - book.levels[code]) >= half,
        absolute(number(level) - x) >= number(half * slack),
        (number(level) > x) if up else (number(level) < x),
        z3.Or(number(low) - x >= margin, x - number(high) >= margin),
    )


def _computed() -> tuple[z3.BoolRef, ...]:
    """Say that x and x′ lie in their block, and x̂ and x̂′ are what the quantizer may compare."""
    return (within(_X_HAT, _X), within(_Y_HAT, _Y), absolute(_X) <= 1, absolute(_Y) <= 1)


def _stays(book: Codebook, code: int) -> z3.BoolRef:
    return z3.And(in_cell(book, _X_HAT, code), in_cell(book, _Y_HAT, code))


def level_error(level: Fraction, dtype: str) -> Fraction:
    """Return how far rounding to a format may move a level times its scale, in scales.

    Of bfloat16 and float32 the product is a normal number at every scale covered (s ≥ 2⁻¹²¹), so the error is
    relative; of float16 it may be subnormal (s ≥ 2⁻¹⁴), so it is that of the absmax. Zero is exact.
    """
    relative = abs(level) if dtype != "float16" else Fraction(level != 0)
    return UNIT_ROUNDOFF[dtype] * relative


def _snapped(book: Codebook, code: int, dtype: str) -> z3.BoolRef:
    """Say that x′ is a code's level, rounded to a format."""
    level = book.levels[code]
    return absolute(_Y - number(level)) <= number(level_error(level, dtype))


def _near_threshold(book: Codebook, code: int, margin: Fraction) -> z3.BoolRef:
    low, high = _bounds(book, code)
    return z3.Or(_Y - number(low) < number(margin), number(high) - _Y < number(margin))


def _bounds(book: Codebook, code: int) -> tuple[Fraction, Fraction]:
    """Return the thresholds around an interior code."""
    return book.thresholds[code - 1], book.thresholds[code]


def _middle(book: Codebook, code: int) -> Fraction:
    low, high = _bounds(book, code)
    return (low + high) / 2


def _length(book: Codebook, code: int) -> Fraction:
    """Return how far apart two exact values of one code may lie; the end cells stop at ±1."""
    low, high = book.cell(code)
    top = reach(high) if high is not None else Fraction(1)
    bottom = foot(low) if low is not None else Fraction(-1)
    return top - bottom


def _ulps(excess: Fraction) -> str:
    return f"{float(excess * 2**23):.6f} · 2⁻²³"
