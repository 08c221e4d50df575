"""The certified model in memory, for the model runs: the bytes that were examined, read again and compared."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.artefact import Ledger, ModelFiles, TensorFile, as_torch, read_regular, shown
from verify.artefact.ledger import parse as parse_ledger
from verify.artefact.tensors import parse
from verify.artefact.torch_tensors import DTYPES
from verify.behaviour.loading import Opened, open_folder
from verify.checks.evidence import LEDGER, Evidence
from verify.errors import ArtefactError


@dataclass(frozen=True, eq=False)
class Certificate:
    """Base and edited model as tensors. `opened` is the folder's configuration and tokenizer."""

    weights: ModelFiles[TensorFile]
    ledger: Ledger
    probes: Mapping[str, bytes]
    opened: Opened
    stored: torch.dtype

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self.weights.tensors())

    def edited(self, tensor: str) -> Tensor:
        """Return a tensor of the certified model, in its stored dtype; it shares memory with the file."""
        return as_torch(self.weights.holder(tensor), tensor)

    def base(self, tensor: str) -> Tensor:
        """Return a tensor of the base: the certified one with the ledger's values put back."""
        value = self.edited(tensor)
        entry = self.ledger.entries.get(tensor)
        if entry is None:
            return value
        value = value.clone()
        value.view(-1)[entry.indices] = entry.base
        return value


def load(evidence: Evidence) -> Certificate:
    """Read weights and ledger into memory.

    Raises ArtefactError MV101 for bytes other than those examined, MV106 for a configuration or tokenizer that cannot
    be used.
    """
    place = evidence.place
    files = {}
    for name, layout in evidence.weights.files.items():
        data = read_regular(name, root=place.model, limit=layout.size)  # one put in its place could have any size
        files[name] = parse(_same(name, data, evidence.scan.sha256[name]), name=name)
    end = max(max(columns.indices.stop, columns.base.stop) for columns in evidence.ledger.values())
    ledger = _same(LEDGER, read_regular(LEDGER, root=place.folder, limit=end), evidence.ledger_sha256)
    return Certificate(
        weights=ModelFiles(files, evidence.weights.index),
        ledger=parse_ledger(ledger),
        probes=evidence.probes,
        opened=open_folder(evidence.others),
        stored=DTYPES[evidence.stored],
    )


def _same(name: str, data: bytes, digest: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != digest:
        message = f"{shown(name)}: changed while it was verified"
        raise ArtefactError("MV101", message, expected="the bytes that were examined", found="other bytes")
    return data
