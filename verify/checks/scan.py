"""One pass over the weight files: a buffer is hashed and examined, and hashed again as the base, then forgotten.

Memory does not grow with the model: a few buffers are in flight while two threads hash and a third examines. The base
is the file with the ledger's values put back, so its digest is the vendor's if nothing else was changed.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from verify.artefact import Changes, Layout, LedgerStream, OpenFile, TensorView, shown
from verify.artefact.tensors import MISFIT, SIZES
from verify.errors import ArtefactError
from verify.nf4.rows import LARGEST_BLOCK, Geometry, Tally
from verify.nf4.values import Bits, first_not_finite, largest_magnitude

if TYPE_CHECKING:
    from verify.nf4.stream import TensorStream

Progress = Callable[[int], None]
"""Called with the number of bytes just read."""

PIECE = 1 << 22
"""Bytes read at once: a multiple of `LARGEST_BLOCK` values of any type."""
_IN_FLIGHT = 48
"""Pieces read and not yet done with: enough to go on hashing while the kernels are loaded."""
_FLOATS = ("BF16", "F16", "F32")


@dataclass(frozen=True, eq=False)
class Plan:
    """What to look at beside the digests: for each quantized tensor its geometries, and which are cut transposed.

    `compared` names tensors whose own digest is wanted, because another must hold the same values.
    """

    geometries: Mapping[str, tuple[Geometry, ...]]
    transposed: frozenset[str]
    compared: frozenset[str]
    margin: float


@dataclass(eq=False)
class Scan:
    """What the pass found.

    `sha256` and `base_sha256` by weight file; `equal` counts masked values that equal their base value, by tensor;
    `largest` holds the bits of each tensor's largest magnitude, and `not_finite` names tensors with their first flat
    index of NaN or infinity; `tallies` by tensor and geometry, for masked tensors that NF4 quantizes; `tensor_sha256`
    of the compared tensors.
    """

    sha256: dict[str, str] = field(default_factory=dict)
    base_sha256: dict[str, str] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, dict[Geometry, Tally]] = field(default_factory=dict)
    tensor_sha256: dict[str, str] = field(default_factory=dict)


def scan(files: Sequence[tuple[OpenFile, Layout]], ledger: LedgerStream, plan: Plan, *, progress: Progress) -> Scan:
    """Read every weight file once.

    Raises ArtefactError MV101 for a file that changes meanwhile, MV120 and MV121 for a ledger that is not sound or does
    not fit.
    """
    require_holders(ledger, [layout for _, layout in files])
    found = Scan()
    with _Workers() as workers:
        for file, layout in files:
            _scan_file(file, layout, ledger, plan, found, workers, progress)
    return found


def require_holders(ledger: LedgerStream, layouts: Sequence[Layout]) -> None:
    """Raise ArtefactError MV121 unless every tensor of the ledger is in one weight file, in its type and as large."""
    for tensor, columns in ledger.columns.items():
        views = [layout.tensors[tensor] for layout in layouts if tensor in layout.tensors]
        if len(views) != 1:
            message = f"the ledger names tensor {shown(tensor)}"
            raise ArtefactError(MISFIT, message, expected="in one weight file", found=f"in {len(views)}")
        if views[0].dtype != columns.dtype:
            message = f"the ledger's values of tensor {shown(tensor)}: dtype differs from the file's"
            raise ArtefactError(MISFIT, message, expected=views[0].dtype, found=columns.dtype)
        if columns.count > views[0].count:  # before the columns are read: they could have any size
            message = f"the ledger has more values of tensor {shown(tensor)} than there are"
            raise ArtefactError(MISFIT, message, expected=f"at most {views[0].count:,}", found=f"{columns.count:,}")


class _Workers:
    """Three threads, each doing its tasks in order: hash the file, hash the base, examine. Buffers are reused."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.edited, self.base, self.examine = (self._stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3))
        self._free: list[bytearray] = []
        self._pending: deque[tuple[list[Future[Any]], bytearray | None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def buffer(self) -> bytearray:
        return self._free.pop() if self._free else bytearray(PIECE)

    def submit(self, tasks: list[Future[Any]], buffer: bytearray | None) -> None:
        """Hand in the tasks that use a buffer, and wait for the oldest when enough are in flight."""
        self._pending.append((tasks, buffer))
        while len(self._pending) > _IN_FLIGHT:
            self._finish_oldest()

    def drain(self) -> None:
        while self._pending:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        tasks, buffer = self._pending.popleft()
        for task in tasks:
            task.result()
        if buffer is not None:
            self._free.append(buffer)


class _Digests:
    """The digests of a file and of its base, which are one until the first masked value."""

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers
        self._edited = hashlib.sha256()
        self._base: Future[Any] | None = None

    def fork(self) -> None:
        """From here on the base has other bytes."""
        if self._base is None:
            self._base = self._workers.edited.submit(self._edited.copy)

    def edited(self, content: memoryview) -> Future[Any]:
        """Take the file's next bytes."""
        return self._workers.edited.submit(self._edited.update, content)

    def base(self, content: memoryview, restored: Future[Any] | None) -> list[Future[Any]]:
        """Take the base's next bytes once they are restored; nothing to do while file and base are one."""
        if self._base is None:
            return []
        fork = self._base

        def update() -> None:
            if restored is not None:
                restored.result()
            fork.result().update(content)

        return [self._workers.base.submit(update)]

    def hexdigests(self) -> tuple[str, str]:
        """Return both digests; all tasks must have ended."""
        edited = self._edited.hexdigest()
        return edited, edited if self._base is None else self._base.result().hexdigest()


def _scan_file(
    file: OpenFile,
    layout: Layout,
    ledger: LedgerStream,
    plan: Plan,
    found: Scan,
    workers: _Workers,
    progress: Progress,
) -> None:
    digests = _Digests(workers)
    views = sorted(layout.tensors.items(), key=lambda item: item[1].start)
    workers.submit([digests.edited(memoryview(layout.head))], None)
    progress(len(layout.head))
    for name, view in views:
        if view.count:
            _scan_tensor(file, name, view, ledger, plan, found, workers, digests, progress)
    workers.drain()
    file.require_same_size()
    found.sha256[file.name], found.base_sha256[file.name] = digests.hexdigests()


def _scan_tensor(
    file: OpenFile,
    name: str,
    view: TensorView,
    ledger: LedgerStream,
    plan: Plan,
    found: Scan,
    workers: _Workers,
    digests: _Digests,
    progress: Progress,
) -> None:
    """Read one tensor in pieces, and hand each to the hashes and to its examiner."""
    changes = _changes(name, view, ledger)
    examiner = _examiner(name, view, changes, plan, found)
    workers.submit([workers.examine.submit(examiner.start)], None)
    size = SIZES[view.dtype]
    own = hashlib.sha256() if name in plan.compared else None
    for start, stop in _pieces(view):
        buffer = workers.buffer()
        part = memoryview(buffer)[: stop - start]
        file.read_into(part, start)
        values = np.frombuffer(part, dtype=f"<u{size}")
        first = (start - view.start) // size
        tasks = [] if own is None else [workers.examine.submit(own.update, part)]
        inside = _inside(changes, first, first + values.size)
        restored: Future[Any] | None = None
        if inside.start < inside.stop:
            digests.fork()
        tasks += [digests.edited(part), workers.examine.submit(examiner.take, first, values)]
        if changes is not None and inside.start < inside.stop:
            places, old = changes.indices[inside] - first, changes.base[inside]
            restored = workers.examine.submit(_restore, tasks[-2], values, places, old)
            tasks += [restored, workers.examine.submit(examiner.take_base, first, values)]
        tasks += digests.base(part, restored)
        workers.submit(tasks, buffer)
        progress(stop - start)
    workers.submit([workers.examine.submit(examiner.finish)], None)
    if own is not None:
        workers.drain()
        found.tensor_sha256[name] = own.hexdigest()


def _restore(hashed: Future[Any], values: Bits, places: NDArray[np.int64], old: Bits) -> None:
    """Put the base values into the buffer, once its edited values are hashed and, before in this thread, examined."""
    hashed.result()
    values[places] = old


def _pieces(view: TensorView) -> Iterator[tuple[int, int]]:
    for start in range(view.start, view.stop, PIECE):
        yield start, min(start + PIECE, view.stop)


def _changes(name: str, view: TensorView, ledger: LedgerStream) -> Changes | None:
    if name not in ledger.columns:
        return None
    changes = ledger.changes(name)
    if int(changes.indices[-1]) >= view.count:
        message = f"the ledger's indices of tensor {shown(name)}: index out of range"
        raise ArtefactError(MISFIT, message, expected=f"0 to {view.count - 1}", found=str(int(changes.indices[-1])))
    return changes


def _inside(changes: Changes | None, first: int, last: int) -> slice:
    if changes is None:
        return slice(0, 0)
    low, high = np.searchsorted(changes.indices, (first, last))
    return slice(int(low), int(high))


def _examiner(name: str, view: TensorView, changes: Changes | None, plan: Plan, found: Scan) -> "_Examiner":
    geometries = plan.geometries.get(name, ())
    if changes is None or not geometries or view.dtype not in _FLOATS:
        return _Examiner(name, view, changes, found)
    if name in plan.transposed:
        return _TransposedExaminer(name, view, changes, found, geometries, plan.margin)
    return _NF4Examiner(name, view, changes, found, geometries, plan.margin)


class _Examiner:
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
        inside = _inside(self._changes, first, first + edited.size)
        if self._changes is not None and inside.start < inside.stop:
            old, new = self._changes.base[inside], edited[self._changes.indices[inside] - first]
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


class _NF4Examiner(_Examiner):
    """Also decides the five rows."""

    def __init__(
        self,
        name: str,
        view: TensorView,
        changes: Changes,
        found: Scan,
        geometries: tuple[Geometry, ...],
        margin: float,
    ) -> None:
        super().__init__(name, view, changes, found)
        self._masked, self._geometries, self._margin = changes, geometries, margin

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
