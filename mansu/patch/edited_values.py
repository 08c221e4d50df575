"""`edited.safetensors`: the edited values in the ledger's order, per masked tensor one `NAME.edited` [n]."""

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mansu.patch.refusals import unusable
from mansu.patch.rewriting import require_same_columns
from mansu.patch.writing import write_new
from verify.artefact import Changes, LedgerStream, OpenFile, read_layout, shown
from verify.artefact.tensors import SIZES

EDITED, FORMAT, SUFFIX = "edited.safetensors", "mansu-patch/v1", ".edited"


class EditedValues:
    """The edited values on disk, beside their ledger."""

    def __init__(self, file: OpenFile, ledger: LedgerStream) -> None:
        """Read the header; ArtefactError MV110 or MV121, and UsageError ME301 for another format or other tensors."""
        self._file, self._ledger = file, ledger
        self._layout = read_layout(file.read, file.size, name=file.name)
        names = {tensor + SUFFIX for tensor in ledger.columns}
        if self._layout.metadata != {"format": FORMAT} or self._layout.tensors.keys() != names:
            expected = f"format {FORMAT}, and one {SUFFIX} for each tensor of the ledger"
            raise unusable(f"{EDITED} is not that of this ledger", expected, shown(self._layout.metadata))
        for tensor, columns in ledger.columns.items():
            require_same_columns(columns, self._layout.tensors[tensor + SUFFIX], tensor + SUFFIX)

    def changes(self, tensor: str) -> Changes:
        """Return one tensor's indices with its edited values."""
        view = self._layout.tensors[tensor + SUFFIX]
        bits = np.frombuffer(self._file.read(view.start, view.stop), f"<u{SIZES[view.dtype]}")
        return replace(self._ledger.changes(tensor), base=bits)


def write_edited(path: Path, ledger: LedgerStream, edited: Mapping[str, bytes]) -> None:
    """Write the edited values, tensors in order of name; the same certificate gives the same bytes."""
    header: dict[str, object] = {"__metadata__": {"format": FORMAT}}
    position = 0
    for tensor, columns in sorted(ledger.columns.items()):
        end = position + len(edited[tensor])
        header[tensor + SUFFIX] = {
            "dtype": columns.dtype,
            "shape": [columns.count],
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(sink: BinaryIO) -> None:
        sink.write(struct.pack("<Q", len(text)) + text)
        for tensor in sorted(ledger.columns):
            sink.write(edited[tensor])

    write_new(path, write)
