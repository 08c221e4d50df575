"""One pass over the weight files: a buffer is hashed and examined, and hashed again as the base, then forgotten.

Memory does not grow with the model: a few buffers are in flight while two threads hash and a third examines. The base
is the file with the ledger's values put back, so its digest is the vendor's if nothing else was changed.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify.artefact import Changes, Layout, LedgerStream, OpenFile, TensorView, shown
from verify.artefact.tensors import MISFIT, SIZES
from verify.checks.examiners import Plan, Scan, examiner_of, inside
from verify.checks.workers import PIECE, Digests, Workers
from verify.errors import ArtefactError
from verify.nf4.values import Bits

Progress = Callable[[int], None]
"""Called with the number of bytes just read."""


def scan(files: Sequence[tuple[OpenFile, Layout]], ledger: LedgerStream, plan: Plan, *, progress: Progress) -> Scan:
    """Read every weight file once.

    Raises ArtefactError MV101 for a file that changes meanwhile, MV120 and MV121 for a ledger that is not sound or does
    not fit.
    """
    require_holders(ledger, [layout for _, layout in files])
    found = Scan()
    with Workers() as workers:
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


def _scan_file(
    file: OpenFile,
    layout: Layout,
    ledger: LedgerStream,
    plan: Plan,
    found: Scan,
    workers: Workers,
    progress: Progress,
) -> None:
    digests = Digests(workers)
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
    workers: Workers,
    digests: Digests,
    progress: Progress,
) -> None:
    """Read one tensor in pieces, and hand each to the hashes and to its examiner."""
    changes = _changes(name, view, ledger)
    examiner = examiner_of(name, view, changes, plan, found)
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
        masked = inside(changes, first, first + values.size)
        restored: Future[Any] | None = None
        if masked.start < masked.stop:
            digests.fork()
        tasks += [digests.edited(part), workers.examine.submit(examiner.take, first, values)]
        if changes is not None and masked.start < masked.stop:
            places, old = changes.indices[masked] - first, changes.base[masked]
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
