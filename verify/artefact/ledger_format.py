"""The ledger's format: which values of which tensors were changed, and what they were before (spec/ledger.md).

A certified model is its base plus this sparse patch. Putting the base values back gives the base file's bytes, so the
vendor's digest can be met without the vendor's file, and nothing undeclared can hide. A ledger is read a tensor at a
time, so that its size does not matter; no torch here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verify.artefact.envelope import shown
from verify.artefact.files import OpenFile
from verify.artefact.tensors import SIZES, Layout, TensorView, read_layout
from verify.errors import ArtefactError

CHECK = "MV120"
FORMAT = "mansu-ledger/v1"
INDICES = ".indices"
BASE = ".base"
INFINITY = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF0000000000000}
"""The types a masked tensor can have, those that NF4 quantizes, each with its bits of infinity."""
_PIECE = 1 << 22


@dataclass(frozen=True)
class Columns:
    """One tensor's part of a ledger: how many values, of which type, and where its two columns lie in the file."""

    count: int
    dtype: str
    indices: TensorView
    base: TensorView


@dataclass(frozen=True, eq=False)
class Changes:
    """One tensor's changes: flat row-major `indices` [n], int64, ascending strictly; `base` [n], the old bits."""

    dtype: str
    indices: NDArray[np.int64]
    base: NDArray[np.unsignedinteger]


def read_columns(layout: Layout) -> dict[str, Columns]:
    """Return the masked tensors that a ledger's header names, in order of name.

    Raises ArtefactError MV120 for another format, unknown keys, a missing partner, an empty ledger or entry, types
    other than int64 and a float, or lengths that differ.
    """
    name = layout.name
    if layout.metadata != {"format": FORMAT}:
        raise refused(name, "metadata", expected=f"format {FORMAT} and nothing else", found=shown(layout.metadata))
    found = {tensor: _columns(layout, tensor) for tensor in _tensor_names(layout)}
    if not found:
        raise refused(name, "declares no change")
    return found


def require_sound(name: str, tensor: str, changes: Changes) -> None:
    """Raise ArtefactError MV120 unless indices ascend strictly from 0 up and base values are finite."""
    indices, label = changes.indices, f"tensor {shown(tensor)}"
    if int(indices[0]) < 0:
        raise refused(name, f"{label}: negative index", found=str(int(indices[0])))
    falls = np.flatnonzero(indices[1:] <= indices[:-1])
    if falls.size:
        at = int(falls[0])
        found = f"{int(indices[at])} then {int(indices[at + 1])}"
        raise refused(name, f"{label}: indices not strictly ascending", found=found)
    magnitude = (1 << (8 * changes.base.itemsize - 1)) - 1
    if bool(((changes.base & magnitude) >= INFINITY[changes.dtype]).any()):
        raise refused(name, f"{label}: a base value is NaN or infinite")


class LedgerStream:
    """A ledger on disk. Every byte is hashed once as a whole; what is read later must have the digest it had then."""

    def __init__(self, file: OpenFile) -> None:
        """Read the header and hash the file; ArtefactError MV110 or MV120 for a header that is not a ledger's."""
        self._file = file
        self.layout = read_layout(file.read, file.size, name=file.name)
        self.columns: Mapping[str, Columns] = read_columns(self.layout)
        self.sha256, self._digests = self._hash()

    @property
    def masked(self) -> int:
        """Number of masked values over all tensors."""
        return sum(columns.count for columns in self.columns.values())

    def changes(self, tensor: str) -> Changes:
        """Return one tensor's changes; ArtefactError MV101 if the file changed, MV120 if they are not sound."""
        columns = self.columns[tensor]
        indices = np.frombuffer(self._checked(columns.indices), dtype="<i8").astype(np.int64, copy=False)
        bits = f"<u{SIZES[columns.dtype]}"
        found = Changes(columns.dtype, indices, np.frombuffer(self._checked(columns.base), dtype=bits))
        require_sound(self._file.name, tensor, found)
        return found

    def _hash(self) -> tuple[str, dict[tuple[int, int], bytes]]:
        """Return the digest of the whole file and that of each column, from one reading."""
        whole = hashlib.sha256(self.layout.head)
        digests = {}
        for view in sorted(self.layout.tensors.values(), key=lambda view: view.start):
            part = hashlib.sha256()
            for start in range(view.start, view.stop, _PIECE):
                data = self._file.read(start, min(start + _PIECE, view.stop))
                whole.update(data)
                part.update(data)
            digests[view.start, view.stop] = part.digest()
        self._file.require_same_size()
        return whole.hexdigest(), digests

    def _checked(self, view: TensorView) -> bytes:
        data = self._file.read(view.start, view.stop)
        if hashlib.sha256(data).digest() != self._digests[view.start, view.stop]:
            message = f"{shown(self._file.name)}: changed while it was read"
            raise ArtefactError("MV101", message, expected="the bytes that were hashed", found="other bytes")
        return data


def _columns(layout: Layout, tensor: str) -> Columns:
    indices, base = layout.tensors[tensor + INDICES], layout.tensors[tensor + BASE]
    name, label = layout.name, f"tensor {shown(tensor)}"
    if indices.dtype != "I64" or len(indices.shape) != 1:
        found = f"{indices.dtype} {list(indices.shape)}"
        raise refused(name, f"{label}: indices", expected="I64 [n]", found=found)
    if base.dtype not in INFINITY or len(base.shape) != 1:
        found = f"{base.dtype} {list(base.shape)}"
        raise refused(name, f"{label}: base values", expected=f"{', '.join(INFINITY)} [n]", found=found)
    if indices.count != base.count:
        raise refused(name, f"{label}: lengths differ", expected=f"{indices.count} base values", found=str(base.count))
    if indices.count == 0:
        raise refused(name, f"{label}: an entry without a change")
    return Columns(indices.count, base.dtype, indices, base)


def _tensor_names(layout: Layout) -> list[str]:
    """Return the sorted names of the masked tensors; every key must be one half of a pair."""
    names = set()
    for key in layout.tensors:
        suffix = next((end for end in (INDICES, BASE) if key.endswith(end)), None)
        if suffix is None or key == suffix:
            raise refused(layout.name, "unknown key", expected=f"NAME{INDICES} or NAME{BASE}", found=shown(key))
        names.add(key.removesuffix(suffix))
    for name in names:
        for key in (name + INDICES, name + BASE):
            if key not in layout.tensors:
                raise refused(layout.name, "a key has no partner", expected=shown(key))
    return sorted(names)


def refused(name: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    """Return the error MV120 with its reason."""
    return ArtefactError(CHECK, f"{shown(name)}: {reason}", expected=expected, found=found)
