"""What the proofs share: the codebook in exact rationals, the computed value, and questions to z3.

Every float32 is a rational, so the constants below are exactly those the quantizer uses. A value is written x = w/s;
the quantizer compares a float32 x̂ instead, which lies within `ROUNDING` of x, relatively (theorem T10). Formulas hold
for *every* x̂ in that band, hence for the one that is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import torch
import z3
from torch import Tensor

from verify.contract.theorems import Status
from verify.nf4 import codebook
from verify.nf4.quantize import quantize

ROUNDING = Fraction(1, 2**23)
"""ε: the relative error of x̂ against w/s: two roundings of at most 2⁻²⁴ each. Theorem T10 proves it."""

MARGIN = Fraction(1, 2**7)
"""The policy's default margin, in units of the block's absmax."""

_TIMEOUT_MS = 60_000


class UndecidedError(Exception):
    """A solver gave up, or a counterexample did not replay on the quantizer: neither proved nor refuted."""


@dataclass(frozen=True)
class Codebook:
    """Levels q₀ … q₁₅, thresholds t₁ … t₁₅ and widths |C₀| … |C₁₅| as exact rationals of their float32 values."""

    levels: tuple[Fraction, ...]
    thresholds: tuple[Fraction, ...]
    widths: tuple[Fraction, ...]

    @classmethod
    def current(cls) -> "Codebook":
        """Return the codebook that the quantizer uses."""
        return cls(exact(codebook.LEVELS), exact(codebook.THRESHOLDS), exact(codebook.WIDTHS))

    @property
    def largest(self) -> Fraction:
        """The largest |t|; a relative error moves a value furthest there."""
        return max(abs(t) for t in self.thresholds)

    def cell(self, code: int) -> tuple[Fraction | None, Fraction | None]:
        """Return the thresholds below and above a code; None at the open ends."""
        return (self.thresholds[code - 1] if code else None, self.thresholds[code] if code < 15 else None)


@dataclass(frozen=True)
class Outcome:
    """What a theorem's function returns; `verify.nf4.proofs.catalog` adds the statement and the time."""

    status: Status
    method: str
    counterexample: str = ""
    constants: tuple[tuple[str, str], ...] = ()


@dataclass
class Obligations:
    """The parts of a proof, in order; the first that fails refutes the whole and becomes the counterexample."""

    failure: str = field(default="", init=False)

    def impossible(self, part: str, *formulas: z3.BoolRef) -> None:
        """Record that no assignment satisfies the formulas."""
        found = None if self.failure else find(*formulas)
        if found is not None:
            self.require(part, holds=False, found=described(found))

    def possible(self, part: str, *formulas: z3.BoolRef) -> None:
        """Record that some assignment does: the constant of the theorem cannot be improved."""
        self.require(part, holds=bool(self.failure) or find(*formulas) is not None, found="no assignment")

    def require(self, part: str, *, holds: bool, found: str = "") -> None:
        """Record a fact that was computed, not asked of z3."""
        if not holds and not self.failure:
            self.failure = f"{part}: {found}" if found else part

    def outcome(self, method: str, *constants: tuple[str, str], edge: str = "") -> Outcome:
        """Return proved if every part held; `edge` is shown as the counterexample just beyond the theorem."""
        if self.failure:
            return Outcome("refuted", method, self.failure, constants)
        return Outcome("proved", method, edge, constants)


def exact(values: Tensor) -> tuple[Fraction, ...]:
    """Return the values of a tensor as exact rationals."""
    return tuple(Fraction(value) for value in values.tolist())


def number(value: Fraction) -> z3.RatNumRef:
    """Return a rational as a z3 constant."""
    return z3.Q(value.numerator, value.denominator)


def find(*formulas: z3.BoolRef) -> dict[str, Fraction] | None:
    """Return an assignment that satisfies all formulas, or None if there is none; `UndecidedError` on 'unknown'."""
    solver = z3.Solver()
    solver.set("timeout", _TIMEOUT_MS)
    solver.add(*formulas)
    answer = solver.check()
    if answer == z3.unsat:
        return None
    if answer != z3.sat:
        raise UndecidedError(f"z3 gave up: {solver.reason_unknown()}")
    model = solver.model()
    return {variable.name(): _fraction(model[variable]) for variable in model.decls() if variable.arity() == 0}


def _fraction(value: z3.ExprRef) -> Fraction:
    if z3.is_algebraic_value(value):
        value = value.approx(20)
    return Fraction(value.as_long()) if z3.is_int_value(value) else value.as_fraction()


def described(assignment: dict[str, Fraction]) -> str:
    """Return an assignment as `x = 0.5, y = 1`."""
    return ", ".join(f"{name} = {float(value):.9g}" for name, value in sorted(assignment.items()))


def absolute(term: z3.ArithRef) -> z3.ArithRef:
    """Return |term|."""
    return z3.If(term >= 0, term, -term)


def within(computed: z3.ArithRef, true: z3.ArithRef, relative: Fraction = ROUNDING) -> z3.BoolRef:
    """Say that `computed` lies within a relative error of `true`: linear, since the error is a constant."""
    near, far = true * number(1 - relative), true * number(1 + relative)
    return z3.If(true >= 0, z3.And(near <= computed, computed <= far), z3.And(far <= computed, computed <= near))


def in_cell(book: Codebook, value: z3.ArithRef, code: int) -> z3.BoolRef:
    """Say that exactly `code` thresholds lie strictly below the value, the thresholds being in order."""
    low, high = book.cell(code)
    return z3.And(
        value > number(low) if low is not None else z3.BoolVal(True),
        value <= number(high) if high is not None else z3.BoolVal(True),
    )


def reach(threshold: Fraction) -> Fraction:
    """Return the largest exact x whose computed x̂ may still lie on or below a threshold."""
    return threshold / (1 - ROUNDING) if threshold > 0 else threshold / (1 + ROUNDING)


def foot(threshold: Fraction) -> Fraction:
    """Return the exact x above which the computed x̂ may lie above a threshold."""
    return threshold / (1 + ROUNDING) if threshold > 0 else threshold / (1 - ROUNDING)


def replayed(values: Iterable[Fraction]) -> list[int]:
    """Return the codes that the quantizer gives values in a block of absmax 1, where float32 division is exact.

    At most 63 values in [−1, 1], each a float32; `UndecidedError` if one is not.
    """
    given = list(values)
    block = torch.zeros(64)
    block[0] = 1.0
    block[1 : len(given) + 1] = torch.tensor([float(value) for value in given])
    if exact(block[1 : len(given) + 1]) != tuple(given):
        raise UndecidedError("a counterexample is not a float32 number")
    codes: list[int] = quantize(block).codes[1 : len(given) + 1].tolist()
    return codes


def scientific(value: Fraction) -> str:
    """Return a constant with six significant digits."""
    return f"{float(value):.6g}"
