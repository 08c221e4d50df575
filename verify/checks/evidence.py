"""The evidence: where a certificate lies, what it lists, and what the one pass over its files established."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from verify.artefact import Layout, ModelFiles, OpenFile, open_regular, read_regular, shown, walk
from verify.artefact.ledger_format import Columns
from verify.behaviour.wording import folded
from verify.checks.architecture import Architecture
from verify.checks.examiners import Scan
from verify.contract.manifest import Statement
from verify.errors import ArtefactError, UsageError

MODEL, PROBES, LEDGER = "model/", "probes/", "ledger.safetensors"
WEIGHTS = ".safetensors"
LARGEST_SMALL_FILES = 256 * 1024 * 1024
"""Bytes that the files other than weights and ledger may have together: they are read as a whole and kept."""
LARGEST_COMPARED = 32 * 1024 * 1024 * 1024
"""Bytes of weights and ledger that are hashed only to say which of them changed, once they are refused anyway."""


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

        Raises ArtefactError MV101 for whatever is not a regular file, and for names that are one name on some systems.
        """
        found = {MODEL + name for name in walk(self.model)}
        probes = self.folder / PROBES.rstrip("/")
        if probes.is_symlink():
            raise ArtefactError("MV101", "probes/ is a link", expected="a folder", found="a symbolic link")
        if probes.is_dir():
            found |= {PROBES + name for name in walk(probes)}
        if (self.folder / LEDGER).exists() or (self.folder / LEDGER).is_symlink():
            found.add(LEDGER)
        _require_distinct(found)
        return found


@dataclass(frozen=True, eq=False)
class Files:
    """What lies on disk and what the manifest names, by subject name.

    `found` is what lies on disk, `listed` what the manifest names, with its digests. Of the files that are both, `data`
    holds the small ones, read once, and `large` are the names of weights and ledger, which are read in pieces.
    """

    place: Place
    found: frozenset[str]
    listed: Mapping[str, str]
    data: Mapping[str, bytes]
    large: frozenset[str]

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return the small files under `model/` or `probes/`, by their name there."""
        return {name.removeprefix(prefix): data for name, data in self.data.items() if name.startswith(prefix)}

    def sha256(self) -> dict[str, str]:
        """Return the digests of the small files."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.data.items()}

    def open(self, subject: str, stack: ExitStack) -> OpenFile:
        """Open a large file until the stack closes; ArtefactError MV101 where it is no regular file."""
        root, name = self.place.path(subject)
        return stack.enter_context(open_regular(name, root=root))

    def hash_large(self) -> Iterator[tuple[str, str]]:
        """Yield name and digest of every large file: for when it cannot be examined, only compared.

        Stops at files of more than `LARGEST_COMPARED` bytes together: one with holes could have any size.
        """
        left = LARGEST_COMPARED
        for subject in sorted(self.large):
            with ExitStack() as stack:
                file = self.open(subject, stack)
                left -= file.size
                if left < 0:
                    return
                digest = file.sha256()
            yield subject, digest


def read(place: Place, statement: Statement) -> Files:
    """Read every small file that is both on disk and in the manifest, once; what is only on disk is named, not read."""
    listed = {subject.name: subject.digest.sha256 for subject in statement.subject}
    found = place.names()
    for name in listed.keys() - found:
        if not name.startswith((MODEL, PROBES)) and _exists(place.folder / name):
            found.add(name)
    both = sorted(listed.keys() & found)
    large = {name for name in both if name == LEDGER or (name.startswith(MODEL) and name.endswith(WEIGHTS))}
    data, left = {}, LARGEST_SMALL_FILES
    for name in both:
        if name not in large:
            root, below = place.path(name)
            data[name] = read_regular(below, root=root, limit=left)
            left -= len(data[name])
    return Files(place, frozenset(found), listed, data, frozenset(large))


def _require_distinct(names: Iterable[str]) -> None:
    """Raise ArtefactError MV101 for names that differ only by case or Unicode form: copied, one replaces another."""
    known: dict[str, str] = {}
    for name in sorted(names):
        one = folded(name)
        if one in known:
            message = "two files have one name where case or Unicode form does not count"
            raise ArtefactError("MV101", message, expected="names that differ", found=abbreviated([known[one], name]))
        known[one] = name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have, such as one too long
        return False


@dataclass(frozen=True, eq=False)
class Evidence:
    """What integrity established without holding the weights: every part parsed from the bytes that were hashed.

    `weights` are the layouts of the weight files, `ledger` the masked tensors, `others` the model folder's files beside
    the weights; `stored` is the dtype of the weights, by its safetensors name.
    """

    statement: Statement
    place: Place
    weights: ModelFiles[Layout]
    ledger: Mapping[str, Columns]
    ledger_sha256: str
    others: Mapping[str, bytes]
    probes: Mapping[str, bytes]
    architecture: Architecture
    stored: str
    scan: Scan

    @cached_property
    def parameters(self) -> int:
        """Number of stored values over all tensors."""
        return sum(view.count for view in self.weights.tensors().values())

    @property
    def masked(self) -> int:
        """Number of masked values over all tensors."""
        return sum(columns.count for columns in self.ledger.values())


def abbreviated(names: list[str], limit: int = 3) -> str:
    """Return a list of names from an artefact, escaped, the first few in full and the others counted."""
    shown_names = ", ".join(shown(name) for name in names[:limit])
    return shown_names + (f" and {len(names) - limit} more" if len(names) > limit else "")
