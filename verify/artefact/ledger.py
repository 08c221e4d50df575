"""The ledger in memory, as torch tensors: written by the producer, put back by whoever wants the base's bytes.

The format and its rules are those of `verify.artefact.ledger_format`.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from verify.artefact.envelope import shown
from verify.artefact.ledger_format import BASE, FORMAT, INDICES, Changes, read_columns, require_sound
from verify.artefact.tensors import MISFIT, TensorFile
from verify.artefact.tensors import parse as parse_tensors
from verify.artefact.torch_tensors import DTYPES, as_torch, overwrite
from verify.errors import ArtefactError


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
    names = sorted(entries)
    columns = [(name + INDICES, entries[name].indices) for name in names]
    columns += [(name + BASE, entries[name].base) for name in names]
    header: dict[str, object] = {"__metadata__": {"format": FORMAT}}
    chunks, position = [], 0
    for key, column in columns:
        chunk = _little_endian(column)
        header[key] = {
            "dtype": _dtype_name(column.dtype),
            "shape": list(column.shape),
            "data_offsets": [position, position + len(chunk)],
        }
        chunks.append(chunk)
        position += len(chunk)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + b"".join(chunks)
    parse(data, name="ledger")  # what no reader accepts is found here, not by the verifier
    return data


def parse(data: bytes, *, name: str = "ledger.safetensors") -> Ledger:
    """Read a ledger.

    Raises ArtefactError MV110 when it is not a strict safetensors file, MV120 for another format, unknown keys, a
    missing partner, an empty ledger or entry, indices that are not strictly ascending from 0 up, base values that
    are not finite floats, or lengths that differ.
    """
    file = parse_tensors(data, name=name)
    entries = {}
    for tensor, columns in read_columns(file).items():
        entry = LedgerEntry(as_torch(file, tensor + INDICES), as_torch(file, tensor + BASE))
        bits = entry.base.view(getattr(torch, f"uint{8 * entry.base.itemsize}")).numpy()
        require_sound(name, tensor, Changes(columns.dtype, entry.indices.numpy(), bits))
        entries[tensor] = entry
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


def _little_endian(column: torch.Tensor) -> bytes:
    size = column.dtype.itemsize
    bits = column.detach().contiguous().view(getattr(torch, f"uint{8 * size}")).numpy()
    return bits.astype(f"<u{size}", copy=False).tobytes()


def _dtype_name(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)
