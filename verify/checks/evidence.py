"""The evidence: every file of a certificate, read once. What is hashed here is what every later step uses."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verify.artefact import Ledger, ModelFiles, as_torch, read_regular, shown, walk
from verify.behaviour.loading import Opened
from verify.contract.manifest import Statement
from verify.errors import ArtefactError, UsageError

MODEL, PROBES, LEDGER = "model/", "probes/", "ledger.safetensors"


@dataclass(frozen=True)
class Place:
    """Where a certificate lies: the model's folder, and the folder of the manifest with all the rest."""

    model: Path
    folder: Path

    @classmethod
    def of(cls, model: Path, manifest: Path) -> "Place":
        """Resolve the two paths the user gave; UsageError when either does not exist."""
        if not manifest.is_file():
            raise UsageError(f"there is no manifest at {manifest}", remedy="give the certificate's m.json")
        if not model.exists():
            raise UsageError(f"{model} does not exist", remedy="give a model folder, a .safetensors file or its index")
        if not model.is_dir() and not model.name.endswith((".safetensors", ".index.json")):
            remedy = "give a model folder, a .safetensors file or its .index.json"
            raise UsageError(f"{model} is not a model", found=model.name, remedy=remedy)
        return cls(model if model.is_dir() else model.parent, manifest.parent)

    def path(self, subject: str) -> tuple[Path, str]:
        """Return (root, name below it) of a subject."""
        if subject.startswith(MODEL):
            return self.model, subject.removeprefix(MODEL)
        return self.folder, subject

    def names(self) -> set[str]:
        """Return every file that must be a subject: all of the model's folder, of probes/, and the ledger.

        Raises ArtefactError MV101 for whatever is not a regular file.
        """
        found = {MODEL + name for name in walk(self.model)}
        probes = self.folder / PROBES.rstrip("/")
        if probes.is_symlink():
            raise ArtefactError("MV101", "probes/ is a link", expected="a folder", found="a symbolic link")
        if probes.is_dir():
            found |= {PROBES + name for name in walk(probes)}
        if (self.folder / LEDGER).exists() or (self.folder / LEDGER).is_symlink():
            found.add(LEDGER)
        return found


@dataclass(frozen=True, eq=False)
class Files:
    """The files as read, by subject name.

    `found` is what lies on disk, `listed` what the manifest names, with its digests; `data` holds the files that are
    both, and `sha256` their actual digests.
    """

    found: frozenset[str]
    listed: Mapping[str, str]
    data: Mapping[str, bytes]
    sha256: Mapping[str, str]

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return the files under `model/` or `probes/`, by their name there."""
        return {name.removeprefix(prefix): data for name, data in self.data.items() if name.startswith(prefix)}


def read(place: Place, statement: Statement) -> Files:
    """Read every file that is both on disk and in the manifest, once; what is only on disk is named, not read."""
    listed = {subject.name: subject.digest.sha256 for subject in statement.subject}
    found = place.names()
    for name in listed.keys() - found:
        if not name.startswith((MODEL, PROBES)) and (place.folder / name).exists():
            found.add(name)
    data = {}
    for name in sorted(listed.keys() & found):
        root, below = place.path(name)
        data[name] = read_regular(below, root=root)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
    return Files(frozenset(found), listed, data, digests)


@dataclass(frozen=True, eq=False)
class Certificate:
    """What integrity established: the parts of a certificate, each parsed from the buffer that was hashed.

    `others` are the model folder's files beside the weights; `outline` is the model without values; `stored` is the
    dtype of its weights.
    """

    statement: Statement
    weights: ModelFiles
    ledger: Ledger
    others: Mapping[str, bytes]
    probes: Mapping[str, bytes]
    opened: Opened
    outline: Any
    stored: torch.dtype

    @cached_property
    def parameters(self) -> int:
        """Number of stored values over all tensors."""
        return sum(view.count for view in self.weights.tensors().values())

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


def abbreviated(names: list[str], limit: int = 3) -> str:
    """Return a list of names from an artefact, escaped, the first few in full and the others counted."""
    shown_names = ", ".join(shown(name) for name in names[:limit])
    return shown_names + (f" and {len(names) - limit} more" if len(names) > limit else "")
