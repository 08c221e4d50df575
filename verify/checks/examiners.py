"""What is looked at in each tensor, piece by piece: finite and unchanged values, the five rows, block scales."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verify.artefact import Changes, TensorView
from verify.nf4.reach import Counts, count_values, empty_counts
from verify.nf4.rows import LARGEST_BLOCK, Geometry, Tally
from verify.nf4.values import Bits, first_not_finite, largest_magnitude

if TYPE_CHECKING:
    from verify.nf4.stream import TensorStream

_FLOATS = ("BF16", "F16", "F32")


@dataclass(frozen=True, eq=False)
class Plan:
    """What to look at beside the digests: for each quantized tensor its geometries, and which are cut transposed.

    `compared` names tensors whose own digest is wanted, because another must hold the same values. `scaled` maps
    tensors whose base scales are to be counted to their block size.
    """

    geometries: Mapping[str, tuple[Geometry, ...]]
    transposed: frozenset[str]
    compared: frozenset[str]
    margin: float
    scaled: Mapping[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Scan:
    """What the pass found.

    `sha256` and `base_sha256` by weight file; `equal` counts masked values that equal their base value, by tensor;
    `largest` holds the bits of each tensor's largest magnitude, and `not_finite` names tensors with their first flat
    index of NaN or infinity; `tallies` by tensor and geometry, for masked tensors that NF4 quantizes; `tensor_sha256`
    of the compared tensors. `scales` counts the values of the scaled tensors by the bits of their block's absmax in the
    base, and `squares` is the squared norm of the update in those of them that are masked.
    """

    sha256: dict[str, str] = field(default_factory=dict)
    base_sha256: dict[str, str] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, dict[Geometry, Tally]] = field(default_factory=dict)
    tensor_sha256: dict[str, str] = field(default_factory=dict)
    scales: Counts = field(default_factory=empty_counts)
    squares: float = 0.0


def inside(changes: Changes | None, first: int, last: int) -> slice:
    """Return which of the changes lie in the flat indices from `first` to before `last`."""
    if changes is None:
        return slice(0, 0)
    low, high = np.searchsorted(changes.indices, (first, last))
    return slice(int(low), int(high))


def examiner_of(name: str, view: TensorView, changes: Changes | None, plan: Plan, found: Scan) -> "Examiner":
    """Return who looks at a tensor: at the five rows only where it is masked, and quantized under some geometry."""
    geometries = plan.geometries.get(name, ())
    if not geometries or view.dtype not in _FLOATS:
        return Examiner(name, view, changes, found)
    turned = name in plan.transposed
    if changes is None:
        block_size = plan.scaled.get(name)
        if block_size is None:
            return Examiner(name, view, changes, found)
        scales = _TransposedScaleExaminer if turned else _ScaleExaminer
        return scales(name, view, found, block_size)
    return (_TransposedExaminer if turned else _NF4Examiner)(name, view, changes, found, geometries, plan)


class Examiner:
    """Looks for values that are not finite, and counts masked values that did not change."""

    def __init__(self, name: str, view: TensorView, changes: Changes | None, found: Scan) -> None:
        self._name, self._view, self._changes, self._found = name, view, changes, found

    def start(self) -> None:
        """Get ready, in the thread that examines."""

    def take(self, first: int, edited: Bits) -> None:
        """Take the values from flat index `first` on."""
        largest = self._look_at(first, edited)
        self._found.largest[self._name] = max(largest, self._found.largest.get(self._name, 0))
        if self._view.dtype in _FLOATS and self._name not in self._found.not_finite:
            at = first_not_finite(edited, self._view.dtype, largest)
            if at is not None:
                self._found.not_finite[self._name] = first + at
        here = inside(self._changes, first, first + edited.size)
        if self._changes is not None and here.start < here.stop:
            old, new = self._changes.base[here], edited[self._changes.indices[here] - first]
            # as numbers, for +0 and -0 are one value: a bit pattern doubled has lost its sign
            equal = int(np.count_nonzero((old == new) | ((old | new) << 1 == 0)))
            if equal:
                self._found.equal[self._name] = self._found.equal.get(self._name, 0) + equal

    def take_base(self, first: int, base: Bits) -> None:
        """Take the same values again, as they are in the base; only where some are masked."""

    def _look_at(self, first: int, edited: Bits) -> int:
        """Return the largest magnitude of the edited values, as bits."""
        del first
        return largest_magnitude(edited)

    def finish(self) -> None:
        """Take note that the tensor is complete."""


class _ScaleExaminer(Examiner):
    """Also counts the scales of a tensor that is not masked, so that it is its own base."""

    def __init__(self, name: str, view: TensorView, found: Scan, block_size: int) -> None:
        super().__init__(name, view, None, found)
        self._block_size = block_size

    def _look_at(self, first: int, edited: Bits) -> int:
        del first
        return self._count(edited)

    def _count(self, values: Bits) -> int:
        from verify.nf4.maxima import block_maxima  # noqa: PLC0415  (loads numba, while the others hash)

        maxima = block_maxima(values, self._block_size)
        count_values(maxima, values.size, self._block_size, self._found.scales)
        return int(maxima.max(initial=0))


class _TransposedScaleExaminer(_ScaleExaminer):
    """Keeps the whole tensor, stored as [in, out], and cuts its transpose into blocks."""

    def start(self) -> None:
        self._values: list[Bits] = []

    def _look_at(self, first: int, edited: Bits) -> int:
        del first
        self._values.append(edited.copy())
        return largest_magnitude(edited)

    def finish(self) -> None:
        rows, columns = self._view.shape
        whole = np.concatenate(self._values).reshape(rows, columns)
        self._count(np.ascontiguousarray(whole.T).reshape(-1))


class _NF4Examiner(Examiner):
    """Also decides the five rows."""

    def __init__(
        self,
        name: str,
        view: TensorView,
        changes: Changes,
        found: Scan,
        geometries: tuple[Geometry, ...],
        plan: Plan,
    ) -> None:
        super().__init__(name, view, changes, found)
        self._masked, self._geometries, self._margin = changes, geometries, plan.margin
        self._block_size = plan.scaled.get(name)

    def start(self) -> None:
        self._stream = self._new_stream(self._masked.indices, self._masked.base)

    def _new_stream(self, indices: NDArray[np.int64], base: Bits) -> "TensorStream":
        from verify.nf4.stream import TensorStream  # noqa: PLC0415  (loads numba, while the others hash)

        return TensorStream(self._view.dtype, self._view.count, indices, base, self._geometries)

    def take_base(self, first: int, base: Bits) -> None:
        self._stream.feed_base(first, base)

    def _look_at(self, first: int, edited: Bits) -> int:
        return self._stream.feed(first, edited)

    def finish(self) -> None:
        if self._name not in self._found.not_finite:
            self._found.tallies[self._name] = self._stream.finish(margin=self._margin)
            if self._block_size is not None:
                maxima = self._stream.base_maxima(self._block_size)
                count_values(maxima, self._view.count, self._block_size, self._found.scales)
                self._found.squares += self._stream.squares()


class _TransposedExaminer(_NF4Examiner):
    """Keeps the whole tensor, stored as [in, out], and cuts its transpose into blocks."""

    def start(self) -> None:
        self._edited = np.empty(self._view.count, self._masked.base.dtype)

    def take_base(self, first: int, base: Bits) -> None:
        """Nothing to do: the base is restored as a whole."""

    def _look_at(self, first: int, edited: Bits) -> int:
        self._edited[first : first + edited.size] = edited
        return largest_magnitude(edited)

    def finish(self) -> None:
        if self._name in self._found.not_finite:
            return
        rows, columns = self._view.shape
        base = self._edited.copy()
        base[self._masked.indices] = self._masked.base
        edited, base = (
            np.ascontiguousarray(bits.reshape(rows, columns).T).reshape(-1) for bits in (self._edited, base)
        )
        turned = np.sort(self._masked.indices % columns * rows + self._masked.indices // columns)
        self._stream = self._new_stream(turned, base[turned])
        for start in range(0, edited.size, 1024 * LARGEST_BLOCK):
            part = slice(start, start + 1024 * LARGEST_BLOCK)
            self._stream.feed(start, edited[part])
            self._stream.feed_base(start, base[part])
        super().finish()
