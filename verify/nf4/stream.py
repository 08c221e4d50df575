"""The five rows of one tensor that is read in pieces, under several geometries at once.

The base is the edited tensor with the ledger's values put back, so blocks without a masked value are the same in both
and cannot change a code. What is kept of the others is one absmax a unit of values; only double quantization, whose
scales depend on all scales of the tensor, needs those of the untouched blocks too. No torch here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from verify.nf4.dynamic import deployed_bounds
from verify.nf4.maxima import maxima, maxima_at
from verify.nf4.rows import (
    CROSSING,
    FINE,
    FIVE,
    FIVE_DOUBLE,
    FLOOR,
    MARGIN,
    MARGIN_BINS,
    MARGIN_STEP,
    REALISED,
    REALISED_DOUBLE,
    ROW_IDS,
    SCALE,
    UPDATE_BINS,
    Cast,
    Geometry,
    Tally,
    Violation,
)
from verify.nf4.survival import Judged, Scales, code_of, judge
from verify.nf4.values import Bits, Float32s, magnitude_mask, values_of


class TensorStream:
    """The masked values of one tensor; feed it the tensor's pieces in order, then ask for its tallies."""

    def __init__(
        self, dtype: str, count: int, indices: NDArray[np.int64], base: Bits, geometries: Sequence[Geometry]
    ) -> None:
        """Expect a tensor of `count` values; `indices` are the masked ones (flat, ascending), `base` their old bits."""
        self._dtype, self._count, self._indices, self._base = dtype, count, indices, base
        self._geometries = tuple(geometries)
        self._unit = min(geometry.block_size for geometry in geometries)
        units = -(-count // self._unit)
        self._before, self._after = np.zeros(units, base.dtype), np.zeros(units, base.dtype)
        self._edited = np.zeros(indices.size, base.dtype)
        self._rescaled = False
        self._drifted: dict[tuple[int, Cast], list[int]] = {(g.block_size, g.cast): [] for g in self._geometries}
        self._collateral = dict.fromkeys(self._drifted, 0)

    def feed(self, start: int, edited: Bits) -> int:
        """Take the edited values from flat index `start` on; return their largest magnitude."""
        units = self._units(start, edited)
        maxima(edited, magnitude_mask(edited), self._unit, self._after[units])
        self._before[units] = self._after[units]
        masked = self._masked(start, edited)
        self._edited[masked] = edited[self._indices[masked] - start]
        return int(self._after[units].max(initial=0))

    def feed_base(self, start: int, base: Bits) -> None:
        """Take the same values as they are in the base, after `feed`; only where some are masked is there a need."""
        masked = self._masked(start, base)
        inside = self._indices[masked] - start
        before, after = (each[self._units(start, base)] for each in (self._before, self._after))
        units = inside // self._unit
        touched = units[np.flatnonzero(np.diff(units, prepend=-1))]
        maxima_at(base, magnitude_mask(base), self._unit, touched, before)
        rescaled = touched[before[touched] != after[touched]]
        if rescaled.size:
            self._rescaled = True
            edited = base.copy()
            edited[inside] = self._edited[masked]
            self._find_collateral(start, edited, base, inside, rescaled)

    def _units(self, start: int, values: Bits) -> slice:
        first = start // self._unit
        return slice(first, first + -(-values.size // self._unit))

    def _masked(self, start: int, values: Bits) -> slice:
        low, high = np.searchsorted(self._indices, (start, start + values.size))
        return slice(int(low), int(high))

    def _find_collateral(
        self, start: int, edited: Bits, base: Bits, inside: NDArray[np.int64], rescaled: NDArray[np.int64]
    ) -> None:
        """Count the unmasked codes that a changed scale changed, block by block."""
        masked = np.zeros(edited.size, np.bool_)
        masked[inside] = True
        for cast in dict.fromkeys(cast for _, cast in self._drifted):
            old, new = (values_of(bits, self._dtype, cast) for bits in (base, edited))
            for block_size in (size for size, other in self._drifted if other == cast):
                blocks = np.unique(rescaled * self._unit // block_size)
                changed = np.zeros(blocks.size, np.int64)
                short = self._count // block_size * block_size - start
                _codes_changed(old, new, masked, blocks, block_size, short, changed)
                self._drifted[block_size, cast] += (start // block_size + blocks[changed > 0]).tolist()
                self._collateral[block_size, cast] += int(changed.sum())

    def finish(self, *, margin: float) -> dict[Geometry, Tally]:
        """Return what the rows say under each geometry."""
        found: dict[Geometry, Tally] = {}
        values = {
            cast: (values_of(self._base, self._dtype, cast), values_of(self._edited, self._dtype, cast))
            for cast in dict.fromkeys(cast for _, cast in self._drifted)
        }
        for block_size in dict.fromkeys(size for size, _ in self._drifted):
            block = self._indices // block_size
            divides = self._indices >= self._count // block_size * block_size
            known: list[_Known] = []  # a cast that changes no scale shares the work
            for cast in (cast for size, cast in self._drifted if size == block_size):
                absmax = self._absmax(block_size, cast)
                if absmax.overflows():  # nothing below is defined for infinite scales
                    tally = _overflowed(self._indices.size)
                    found |= {Geometry(block_size, double, cast): tally for double in (False, True)}
                    continue
                like = next((other for other in known if other.absmax.same(absmax)), None)
                if like is None:
                    scales = _gathered(absmax, block, divides, double=any(g.double_quant for g in self._geometries))
                    known.append(_Known(absmax, scales, values[cast], judge(*values[cast], scales, margin=margin)))
                    scales, judged = known[-1].scales, known[-1].judged
                else:
                    scales, judged = like.scales, like.judged_for(values[cast], margin=margin)
                rows = judged.rows | SCALE * self._kept(scales, block, block_size, cast).view(np.uint8)
                collateral = self._collateral[block_size, cast]
                plain, double = _tallies(self._indices, replace(judged, rows=rows), collateral)
                found |= {Geometry(block_size, False, cast): plain, Geometry(block_size, True, cast): double}
        return {geometry: found[geometry] for geometry in self._geometries}

    def base_maxima(self, block_size: int) -> Bits:
        """Return the bits of each block's absmax in the base, as stored."""
        return self._joined(self._before, block_size)

    def squares(self) -> float:
        """Return the squared norm of the update, over the values as stored."""
        old, new = (values_of(bits, self._dtype) for bits in (self._base, self._edited))
        return float(np.square(new.astype(np.float64) - old).sum())

    def _absmax(self, block_size: int, cast: Cast) -> "_Absmax":
        """Return each block's absmax: rounding keeps order, so the cast of the largest is the largest cast."""
        before = values_of(self._joined(self._before, block_size), self._dtype, cast)
        if not self._rescaled:
            return _Absmax(before, before)
        return _Absmax(before, values_of(self._joined(self._after, block_size), self._dtype, cast))

    def _joined(self, keys: Bits, block_size: int) -> Bits:
        """Return the largest magnitude of each block from those of its units."""
        for _ in range((block_size // self._unit).bit_length() - 1):  # block sizes are powers of two
            halves = np.append(keys, keys.dtype.type(0)) if keys.size % 2 else keys
            keys = np.maximum(halves[::2], halves[1::2])
        return keys

    def _kept(self, scales: Scales, block: NDArray[np.int64], block_size: int, cast: Cast) -> NDArray[np.bool_]:
        """Return which masked values lie in a block that kept its scale, or all its unmasked codes."""
        drifted = self._drifted[block_size, cast]
        if not drifted:
            return np.ones(block.size, np.bool_)
        kept: NDArray[np.bool_] = (scales.before == scales.after) | ~np.isin(block, drifted)
        return kept


class _Absmax(NamedTuple):
    """The absmax of all blocks, float32, before and after the edit; one array where the edit changed none."""

    before: Float32s
    after: Float32s

    def same(self, other: "_Absmax") -> bool:
        """Tell whether all scales are equal."""
        return all(np.array_equal(one, two) for one, two in zip(self, other, strict=True))

    def overflows(self) -> bool:
        """Tell whether a cast made a scale infinite."""
        return not (np.isfinite(self.before).all() and np.isfinite(self.after).all())


class _Known(NamedTuple):
    """What was judged at some scales: the values, float32 before and after the edit, and what the rows say of them."""

    absmax: _Absmax
    scales: Scales
    values: tuple[Float32s, Float32s]
    judged: Judged

    def judged_for(self, values: tuple[Float32s, Float32s], *, margin: float) -> Judged:
        """Return what the rows say of the values of another cast: only those that it changed are judged again."""
        pairs = zip(self.values, values, strict=True)
        differ = np.logical_or.reduce([old.view(np.uint32) != new.view(np.uint32) for old, new in pairs])
        again = np.flatnonzero(differ)
        if not again.size:
            return self.judged
        base, edited = (value[again] for value in values)
        return self.judged.replaced(again, judge(base, edited, self.scales.at(again), margin=margin))


def _gathered(absmax: _Absmax, block: NDArray[np.int64], divides: NDArray[np.bool_], *, double: bool) -> Scales:
    """Return the scales of the masked values in their blocks."""
    changed = absmax.after is not absmax.before
    before = absmax.before[block]
    after = absmax.after[block] if changed else before
    if not double:
        return Scales.plain(before, after, divides)
    bounds = deployed_bounds(absmax.before, block)
    bounds_after = deployed_bounds(absmax.after, block) if changed else bounds
    return Scales(before, after, bounds[0], bounds_after[0], bounds[1], bounds_after[1], divides)


def _overflowed(masked: int) -> Tally:
    """Return the tally of a tensor that a cast makes infinite: no value satisfies any row."""
    updates, margins = np.zeros(UPDATE_BINS, np.int64), np.zeros(MARGIN_BINS, np.int64)
    codes = np.zeros((2, 16), np.int64)
    rows = dict.fromkeys(ROW_IDS, 0)
    return Tally(masked, 0, rows, {}, 0, updates, margins, codes[0], codes[1], overflow=True)


def _tallies(indices: NDArray[np.int64], judged: Judged, collateral: int) -> tuple[Tally, Tally]:
    """Return the tallies without and with double quantization: they differ in the realised row alone."""
    updates, margins = np.zeros(UPDATE_BINS, np.int64), np.zeros(MARGIN_BINS, np.int64)
    codes = np.zeros((2, 16), np.int64)
    bits = np.array([FLOOR, CROSSING, MARGIN, REALISED, SCALE, REALISED_DOUBLE, FIVE, FIVE_DOUBLE])
    satisfied, first = np.zeros(bits.size, np.int64), np.full(bits.size, -1)
    columns = (judged.rows, judged.half_bins, judged.distance, judged.codes_before, judged.codes_after)
    _count(columns, bits, (updates, margins, codes, satisfied, first))

    def tally(realised: int, five: int) -> Tally:
        places = [realised if row == "realised" else place for place, row in enumerate(ROW_IDS)]
        return Tally(
            masked=indices.size,
            survive=int(satisfied[five]),
            satisfied={row: int(satisfied[place]) for row, place in zip(ROW_IDS, places, strict=True)},
            violations={
                row: _violation(indices, judged, int(first[place]))
                for row, place in zip(ROW_IDS, places, strict=True)
                if first[place] >= 0
            },
            collateral=collateral,
            updates=updates,
            margins=margins,
            codes_before=codes[0],
            codes_after=codes[1],
            overflow=False,
        )

    places = {bit: place for place, bit in enumerate(bits.tolist())}
    return tally(places[REALISED], places[FIVE]), tally(places[REALISED_DOUBLE], places[FIVE_DOUBLE])


def _violation(indices: NDArray[np.int64], judged: Judged, at: int) -> Violation:
    return Violation(
        int(indices[at]),
        float(judged.half_bins[at]),
        int(judged.codes_before[at]),
        int(judged.codes_after[at]),
        float(judged.distance[at]),
    )


@njit(cache=True, nogil=True)
def _codes_changed(old: Any, new: Any, masked: Any, blocks: Any, block_size: int, short: int, out: Any) -> None:
    """Count, for each of the blocks, the unmasked values whose code the new scale changed.

    From position `short` on lies the tensor's short last block.
    """
    for b in range(blocks.size):
        first = blocks[b] * block_size
        last = min(first + block_size, old.size)
        before = after = np.float32(0)
        for i in range(first, last):
            before, after = max(before, abs(old[i])), max(after, abs(new[i]))
        for i in range(first, last):
            if not masked[i] and code_of(old[i], before, first >= short) != code_of(new[i], after, first >= short):
                out[b] += 1


@njit(cache=True, nogil=True)
def _bin(value: float, last: int) -> int:
    """Return the bin of a value; what is negative, or no number, must not become an index of its own."""
    if value >= last:
        return last
    return int(value) if value > 0 else 0


@njit(cache=True, nogil=True)
def _count(columns: Any, bits: Any, out: Any) -> None:
    rows, half_bins, distance, codes_before, codes_after = columns
    updates, margins, codes, satisfied, first = out
    for i in range(rows.size):
        updates[_bin(half_bins[i] * FINE, UPDATE_BINS - 1)] += 1
        margins[_bin(distance[i] / MARGIN_STEP, MARGIN_BINS - 1)] += 1
        codes[0, codes_before[i]] += 1
        codes[1, codes_after[i]] += 1
        for row in range(bits.size):
            if rows[i] & bits[row] == bits[row]:
                satisfied[row] += 1
            elif first[row] < 0:
                first[row] = i
