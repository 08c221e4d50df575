"""The five rows by name, the geometries they are checked under, and the counts they come to: data alone, no kernels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Cast = Literal["none", "bf16", "fp16"]

ROW_IDS = ("floor", "crossing", "margin", "realised", "scale")
ROW_CONDITIONS = {
    "floor": "|w' − w| ≥ half the bin width of the base code",
    "crossing": "the stored 4-bit code changes",
    "margin": "w' lies at least the margin inside its new cell, and w at least the margin outside that cell",
    "realised": "the dequantized weight moves the same way, by at least half a bin",
    "scale": "the block keeps its absmax, or else every unmasked code in the block",
}
FLOOR, CROSSING, MARGIN, REALISED, SCALE, REALISED_DOUBLE = (1 << bit for bit in range(6))
"""The rows as bits of a byte, in the order of `ROW_IDS`, and `realised` under double quantization."""
FIVE = FLOOR | CROSSING | MARGIN | REALISED | SCALE
FIVE_DOUBLE = FIVE & ~REALISED | REALISED_DOUBLE

LARGEST_BLOCK = 4096
"""Pieces but the last are whole multiples of this many values, so that no block of any geometry straddles two."""

FINE = 256
"""Bins per half bin of the histogram of updates, of which the last holds all updates of `UPDATE_BINS` / `FINE` on."""
UPDATE_BINS = 8 * FINE
MARGIN_BINS = 12
MARGIN_STEP = 0.01


class Geometry(NamedTuple):
    """How NF4 sees a weight: values a block, statistics mode, and the cast before quantizing."""

    block_size: int = 64
    double_quant: bool = False
    cast: Cast = "none"


@dataclass(frozen=True, slots=True)
class Violation:
    """The first masked value that misses a row: its flat index, update in half bins, codes and margin."""

    index: int
    half_bins: float
    code_before: int
    code_after: int
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What the five rows say of a tensor's masked values under one geometry, in counts.

    `satisfied[row]` counts values, `survive` those that satisfy all five; `violations[row]` is the first that misses a
    row. `updates` counts updates in steps of
    1 / `FINE` half bins, `margins` distances in steps of `MARGIN_STEP` (the last bin holds what lies beyond).
    `overflow` is set where the cast makes a finite weight infinite.
    """

    masked: int
    survive: int
    satisfied: Mapping[str, int]
    violations: Mapping[str, Violation]
    collateral: int
    updates: NDArray[np.int64]
    margins: NDArray[np.int64]
    codes_before: NDArray[np.int64]
    codes_after: NDArray[np.int64]
    overflow: bool
