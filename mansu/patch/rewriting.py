"""A weight file with the values of a patch put in, read and written by the piece: the file's size does not matter."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from verify.artefact import Changes, Layout, OpenFile, TensorView, shown
from verify.artefact.ledger_format import Columns
from verify.artefact.tensors import MISFIT, SIZES
from verify.errors import ArtefactError

_PIECE = 1 << 22


@dataclass(frozen=True)
class Rewritten:
    """The digests of a file before and after, and the values that were replaced, by tensor, as stored bytes."""

    before: str
    after: str
    replaced: dict[str, bytes]


def rewrite(
    file: OpenFile, layout: Layout, changes: Callable[[str], Changes | None], sink: BinaryIO | None = None
) -> Rewritten:
    """Read a file once, put each tensor's `changes` in (their `base` holds the new bits), and write it to `sink`.

    Raises ArtefactError MV101 for a file that changes meanwhile, MV121 for changes that do not fit their tensor.
    """
    before, after = hashlib.sha256(layout.head), hashlib.sha256(layout.head)
    if sink is not None:
        sink.write(layout.head)
    replaced: dict[str, bytes] = {}
    for tensor, view in sorted(layout.tensors.items(), key=lambda item: item[1].start):
        change = changes(tensor)
        if change is not None:
            _require_fit(tensor, view, change)
        old = []
        for first, part in _parts(file, view):
            before.update(part)
            if change is not None:
                old.append(_exchange(part, first, change))
            after.update(part)
            if sink is not None:
                sink.write(part)
        if change is not None:
            replaced[tensor] = b"".join(old)
    file.require_same_size()
    return Rewritten(before.hexdigest(), after.hexdigest(), replaced)


def _exchange(part: bytearray, first: int, change: Changes) -> bytes:
    """Put the new values of one piece in, which begins at element `first`, and return the old ones."""
    values = np.frombuffer(part, f"<u{change.base.itemsize}")
    low, high = np.searchsorted(change.indices, (first, first + values.size))
    places = change.indices[low:high] - first
    old: bytes = values[places].tobytes()
    values[places] = change.base[low:high]
    return old


def _parts(file: OpenFile, view: TensorView) -> Iterator[tuple[int, bytearray]]:
    """Yield pieces of a tensor, each with the number of its first element."""
    for start in range(view.start, view.stop, _PIECE):
        part = bytearray(min(_PIECE, view.stop - start))
        file.read_into(memoryview(part), start)
        yield (start - view.start) // SIZES[view.dtype], part


def _require_fit(tensor: str, view: TensorView, change: Changes) -> None:
    if view.dtype != change.dtype or int(change.indices[-1]) >= view.count:
        expected = f"{change.dtype}, more than {int(change.indices[-1])} values"
        message = f"the patch does not fit tensor {shown(tensor)}"
        raise ArtefactError(MISFIT, message, expected=expected, found=f"{view.dtype}, {view.count}")


def require_same_columns(columns: Columns, view: TensorView, name: str) -> None:
    """Raise ArtefactError MV121 unless a column of new values is as long as the ledger's, and of its type."""
    if (view.dtype, view.shape) != (columns.dtype, (columns.count,)):
        message = f"{shown(name)} does not fit the ledger"
        expected, found = f"{columns.dtype} [{columns.count}]", f"{view.dtype} {list(view.shape)}"
        raise ArtefactError(MISFIT, message, expected=expected, found=found)
