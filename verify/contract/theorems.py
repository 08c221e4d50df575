"""The theorems of permanence in words: one source for the proofs, the report and the command line.

`verify/nf4/proofs` proves or refutes each; a report cites them by id and name. Distances and margins are in units of
the block's absmax. docs/theorems.md has the sketches of the proofs.
"""

from dataclasses import dataclass
from typing import Literal

Status = Literal["proved", "refuted", "undecided"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A theorem as it is cited: `expected` is what a sound code base must find, `rows` the rows that rest on it."""

    id: str
    name: str
    words: str
    expected: Status
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Theorem:
    """What the prover found. `constants` are (name, value) pairs.

    `counterexample` is that of a refuted theorem, or one just beyond a proved theorem, where its premises fail; empty
    where there is none. `undecided` means that a solver gave up, or that a counterexample did not replay on the
    quantizer: never a proof.
    """

    statement: Statement
    status: Status
    counterexample: str
    constants: tuple[tuple[str, str], ...]
    method: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the outcome is the stated one."""
        return self.status == self.statement.expected


STATEMENTS = (
    Statement(
        "T1",
        "half a bin",
        "An update of at least half the bin width, in any direction, changes the code.",
        "refuted",
        ("floor",),
    ),
    Statement(
        "T2",
        "half a bin to the nearest threshold",
        "In an interior cell at a fixed scale, an update toward the nearest threshold by more than half the bin width,"
        " and a rounding error more, changes the code.",
        "proved",
    ),
    Statement(
        "T3",
        "half a bin in the end cells",
        "In the two end cells at a fixed scale, an update of at least half the bin width toward the threshold changes"
        " the code.",
        "refuted",
    ),
    Statement(
        "T4",
        "a whole bin",
        "At a fixed scale, an update of more than the whole bin width, and a rounding error more, changes the code,"
        " whatever its direction.",
        "proved",
    ),
    Statement(
        "T5",
        "snapping to a level",
        "A value moved to an interior level at a fixed scale lies at least half the smallest level spacing from every"
        " threshold, less what rounding the level to the weights' format moves it.",
        "proved",
        ("margin",),
    ),
    Statement(
        "T6",
        "drift of the scale",
        "A value at least m from every threshold keeps its code while the scale changes by less than m over the"
        " largest threshold, less a rounding error.",
        "proved",
        ("margin", "scale"),
    ),
    Statement(
        "T7",
        "double quantization",
        "Compressing the scales changes no code; a move between codes stays realised while the compressed scale,"
        " the same before and after, is at least 0.694 of the exact one.",
        "proved",
        ("crossing", "realised"),
    ),
    Statement(
        "T8",
        "fused rows",
        "Concatenating weights by rows leaves every block as it was if the block size divides the row length.",
        "proved",
        ("crossing", "scale"),
    ),
    Statement(
        "T9",
        "cast to bfloat16 or float16",
        "Rounding a whole block to bfloat16 or float16, of which its absmax is a normal number, moves no value across a"
        " threshold that is at least 2⁻⁷ away.",
        "proved",
        ("margin",),
    ),
    Statement(
        "T10",
        "the computed value",
        "At scales from 2⁻¹²¹ to 2¹²⁶ the float32 value that the quantizer compares lies within 2⁻²³ of w/s,"
        " relatively, and a value on a threshold takes the lower code.",
        "proved",
        ("crossing", "margin"),
    ),
    Statement(
        "T11",
        "every backend",
        "In blocks whose absmax lies between 2⁻¹²¹ and 2¹²⁶, CPU, CUDA and Triton kernels put a value on the same side"
        " of every threshold that is at least 2⁻⁷ away; the margin row excludes all other values, and zero blocks.",
        "proved",
        ("margin",),
    ),
    Statement(
        "T12",
        "the construction",
        "A value moved at a fixed scale to a level that the construction selects satisfies all five rows.",
        "proved",
        ("floor", "crossing", "margin", "realised", "scale"),
    ),
)
"""In the order of docs/floor.md, then the float32 lemma, the backends and the construction."""
