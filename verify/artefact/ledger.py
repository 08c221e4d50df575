"""The ledger: which values of which tensors were changed, and what they were before (DESIGN section 6).

A certified model is its base plus this sparse patch. Putting the base values back gives the base file's bytes, so
the vendor's digest can be met without the vendor's file, and nothing undeclared can hide.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from verify.artefact.envelope import shown
from verify.artefact.tensors import DTYPES, MISFIT, TensorFile, as_torch, overwrite
from verify.artefact.tensors import parse as parse_tensors
from verify.errors import ArtefactError

CHECK = "MV120"
FORMAT = "mansu-ledger/v1"
INDICES = ".indices"
BASE = ".base"
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
"""The types a masked tensor can have: those that NF4 quantizes."""


@dataclass(frozen=True, eq=False)
class LedgerEntry:
    """One tensor's changes: flat row-major `indices` [n], int64, strictly ascending; `base` [n], the old values."""

    indices: torch.Tensor
    base: torch.Tensor


@dataclass(frozen=True, eq=False)
class Ledger:
    """All changes by tensor name, and the digest of the file they were read from."""

    entries: dict[str, LedgerEntry]
    sha256: str

    @property
    def masked(self) -> int:
        """Number of masked values over all tensors."""
        return sum(entry.indices.numel() for entry in self.entries.values())


def write(entries: Mapping[str, LedgerEntry]) -> bytes:
    """Return ledger.safetensors; the same entries, in any order, give the same bytes.

    Layout: per tensor in order of name, all indices first (8-byte elements stay aligned), then all base values.
    Raises ArtefactError MV120 for entries that `parse` would refuse.
    """
    if not entries:
        raise _refused("ledger", "declares no change")
    for name, entry in entries.items():
        _require_sound(name, entry, "ledger")
    names = sorted(entries)
    columns = [(name + INDICES, entries[name].indices) for name in names]
    columns += [(name + BASE, entries[name].base) for name in names]
    header: dict[str, object] = {"__metadata__": {"format": FORMAT}}
    chunks, position = [], 0
    for key, column in columns:
        chunk = _little_endian(column)
        header[key] = {
            "dtype": _dtype_name(column.dtype),
            "shape": [column.numel()],
            "data_offsets": [position, position + len(chunk)],
        }
        chunks.append(chunk)
        position += len(chunk)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + b"".join(chunks)
    parse(data, name="ledger")  # a name that no reader accepts is found here, not by the verifier
    return data


def parse(data: bytes, *, name: str = "ledger.safetensors") -> Ledger:
    """Read a ledger.

    Raises ArtefactError MV110 when it is not a strict safetensors file, MV120 for another format, unknown keys, a
    missing partner, an empty ledger or entry, indices that are not strictly ascending from 0 up, base values that
    are not finite floats, or lengths that differ.
    """
    file = parse_tensors(data, name=name)
    if file.metadata != {"format": FORMAT}:
        raise _refused(name, "metadata", expected=f"format {FORMAT} and nothing else", found=shown(file.metadata))
    entries = {}
    for tensor in _tensor_names(file):
        entry = LedgerEntry(as_torch(file, tensor + INDICES), as_torch(file, tensor + BASE))
        _require_sound(tensor, entry, name)
        entries[tensor] = entry
    if not entries:
        raise _refused(name, "declares no change")
    return Ledger(entries, file.sha256)


def restore(weights: TensorFile, ledger: Ledger) -> bytearray:
    """Return the bytes of the file before the edit: a copy of `weights` with the ledger's values put back.

    For a sharded model give each shard its part (`split`). Raises ArtefactError MV121 when a tensor is unknown,
    an index out of range, or a dtype differs.
    """
    data = bytearray(weights.data)
    for tensor, entry in ledger.entries.items():
        overwrite(data, weights, tensor, entry.indices, entry.base)
    return data


def split(ledger: Ledger, files: Sequence[TensorFile]) -> tuple[Ledger, ...]:
    """Return each file's part of the ledger, in the order of `files`; a file without changes gets an empty part.

    Raises ArtefactError MV121 when a tensor of the ledger is in no file, or in several.
    """
    for tensor in ledger.entries:
        holders = sum(tensor in file.tensors for file in files)
        if holders != 1:
            message = f"the ledger names tensor {shown(tensor)}"
            raise ArtefactError(MISFIT, message, expected="in one weight file", found=f"in {holders}")
    return tuple(
        Ledger({name: entry for name, entry in ledger.entries.items() if name in file.tensors}, ledger.sha256)
        for file in files
    )


def base_digests(files: Sequence[TensorFile], ledger: Ledger) -> dict[str, str]:
    """Return the sha256 that each weight file had before the edit, by file name; one shard is copied at a time."""
    parts = split(ledger, files)
    return {
        file.name: hashlib.sha256(restore(file, part)).hexdigest() if part.entries else file.sha256
        for file, part in zip(files, parts, strict=True)
    }


def _tensor_names(file: TensorFile) -> Iterable[str]:
    """Return the sorted names of the masked tensors; every key must be one half of a pair."""
    names = set()
    for key in file.tensors:
        suffix = next((end for end in (INDICES, BASE) if key.endswith(end)), None)
        if suffix is None or key == suffix:
            raise _refused(file.name, "unknown key", expected=f"NAME{INDICES} or NAME{BASE}", found=shown(key))
        names.add(key.removesuffix(suffix))
    for name in names:
        for key in (name + INDICES, name + BASE):
            if key not in file.tensors:
                raise _refused(file.name, "a key has no partner", expected=shown(key))
    return sorted(names)


def _require_sound(tensor: str, entry: LedgerEntry, name: str) -> None:
    indices, base = entry.indices, entry.base
    label = f"tensor {shown(tensor)}"
    if indices.dtype != torch.int64 or indices.ndim != 1:
        found = f"{indices.dtype} {list(indices.shape)}"
        raise _refused(name, f"{label}: indices", expected="int64 [n]", found=found)
    if base.dtype not in FLOATS.values() or base.ndim != 1:
        found = f"{base.dtype} {list(base.shape)}"
        raise _refused(name, f"{label}: base values", expected=f"{', '.join(FLOATS)} [n]", found=found)
    if indices.numel() != base.numel():
        expected = f"{indices.numel()} base values"
        raise _refused(name, f"{label}: lengths differ", expected=expected, found=str(base.numel()))
    if indices.numel() == 0:
        raise _refused(name, f"{label}: an entry without a change")
    if int(indices[0]) < 0:
        raise _refused(name, f"{label}: negative index", found=str(int(indices[0])))
    falls = (indices[1:] <= indices[:-1]).nonzero()
    if falls.numel():
        at = int(falls[0])
        found = f"{int(indices[at])} then {int(indices[at + 1])}"
        raise _refused(name, f"{label}: indices not strictly ascending", found=found)
    if not bool(torch.isfinite(base).all()):
        raise _refused(name, f"{label}: a base value is NaN or infinite")


def _little_endian(column: torch.Tensor) -> bytes:
    size = column.dtype.itemsize
    bits = column.detach().contiguous().view(getattr(torch, f"uint{8 * size}")).numpy()
    return bits.astype(f"<u{size}", copy=False).tobytes()


def _dtype_name(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def _refused(name: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    return ArtefactError(CHECK, f"{shown(name)}: {reason}", expected=expected, found=found)
