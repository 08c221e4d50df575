"""A certificate as a patch: all of it but the model, with the edited values, for whoever holds the base (DESIGN 6).

A patch is a folder: the certificate's `m.json`, `ledger.safetensors` (indices and base values), `probes/` and, if there
is one, `model.sig`, byte for byte, and `edited.safetensors`, which holds the edited values in the ledger's order, per
masked tensor one `NAME.edited` [n] of its dtype. The digests of the base and of every certified file are in `m.json`.

Nothing here needs torch, and no file of a model is ever in memory.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mansu.rewriting import Rewritten, require_same_columns, rewrite
from mansu.staging import LEDGER, MANIFEST, MODEL, SIGNATURE, refuse_existing, staging
from verify.artefact import (
    Changes,
    LedgerStream,
    OpenFile,
    load_public,
    open_regular,
    read_layout,
    read_regular,
    read_unverified,
    shown,
    unseal,
    write_atomic,
)
from verify.artefact.envelope import MAX_BYTES
from verify.artefact.tensors import SIZES
from verify.contract.manifest import Statement
from verify.errors import ArtefactError, UsageError

EDITED, FORMAT, SUFFIX = "edited.safetensors", "mansu-patch/v1", ".edited"
_PREFIX = MODEL + "/"
_LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is copied whole: probes and signatures."""
_PIECE = 1 << 22


@dataclass(frozen=True)
class Signed:
    """What a manifest says: digests of the base's files, of the certified model's and of the other certified files.

    `signer` is the fingerprint of the key that signed it, None where no key was given to check. `manifest` is the file
    as it was read: what is written on is what was checked.
    """

    manifest: bytes
    statement: Statement
    base: Mapping[str, str]
    model: Mapping[str, str]
    rest: Mapping[str, str]
    signer: str | None

    def changed(self) -> list[str]:
        """Return the model files that the edit changed."""
        return sorted(name for name in self.model if self.model[name] != self.base[name])


@dataclass(frozen=True)
class Outcome:
    """What was written where: its files and bytes, the values that were changed, and who signed the manifest."""

    out: Path
    files: int
    size: int
    values: int
    signer: str | None

    def summary(self, what: str) -> str:
        """Return it in two lines."""
        first = f"{what}: {self.out} ({self.files} files, {self.size:,} bytes; {self.values:,} edited values)"
        if self.signer is None:
            return f"{first}\nsignature: NOT CHECKED, for no --key was given: the digests show only that files fit"
        return f"{first}\nsignature: valid, SHA-256 {self.signer}"


def export(certified: Path, out: Path, keys: Sequence[Path] = ()) -> Outcome:
    """Write the patch of a certificate's folder. See `apply` for the errors."""
    refuse_existing(out)
    signed = _open(certified, keys)
    with staging(out, "the patch") as folder, ExitStack() as stack:
        _copy_rest(certified, folder, signed)
        ledger = LedgerStream(stack.enter_context(open_regular(LEDGER, root=certified)))
        edited: dict[str, bytes] = {}
        for name in signed.changed():
            found = _rewritten(certified / MODEL, name, _of(ledger, edited, ledger.changes))
            _require(name, found.before, signed.model[name], "the certified model")
            _require(name, found.after, signed.base[name], "the base, with the ledger's values put back,")
            edited |= found.replaced
        _require_all(ledger, edited)
        _write_edited(folder / EDITED, ledger, edited)
        return _outcome(out, folder, ledger, signed)


def apply(patch: Path, base: Path, out: Path, keys: Sequence[Path] = ()) -> Outcome:
    """Rebuild a certificate's folder from its patch and the base model: the same files, byte for byte.

    The base's digests are checked first, and those of what was written before the folder gets its name. Raises
    `UsageError` ME301 for a folder that is no patch, ME302 for another base, ME303 where a file does not come out as
    the manifest says, ME220 for an output that exists or cannot be written; `ArtefactError` for files that cannot be
    read (MV101) or are malformed (MV102, MV104, MV110, MV120, MV121), MV103 for a signature that is not by `keys`.
    """
    refuse_existing(out)
    signed = _open(patch, keys)
    for name, digest in signed.base.items():
        _require_base(base, name, digest)
    with staging(out) as folder, ExitStack() as stack:
        _copy_rest(patch, folder, signed)
        ledger = LedgerStream(stack.enter_context(open_regular(LEDGER, root=patch)))
        values = _Edited(stack.enter_context(open_regular(EDITED, root=patch)), ledger)
        used: dict[str, bytes] = {}
        for name, digest in signed.model.items():
            changes = _of(ledger, used, values.changes) if digest != signed.base[name] else None
            found = _write_model_file(base, name, folder / MODEL, changes)
            _require(name, found.before, signed.base[name], "the base, while it was read,")
            _require(name, found.after, digest, "what the patch makes of the base")
            used |= dict.fromkeys(found.replaced, b"")
        _require_all(ledger, used)
        return _outcome(out, folder, ledger, signed)


def revert(certified: Path, out: Path, keys: Sequence[Path] = ()) -> Outcome:
    """Rebuild the base model's folder from a certificate's, byte for byte. See `apply` for the errors."""
    refuse_existing(out)
    signed = _open(certified, keys)
    with staging(out, "the base model") as folder, ExitStack() as stack:
        file = stack.enter_context(open_regular(LEDGER, root=certified))
        ledger = LedgerStream(file)
        _require(LEDGER, ledger.sha256, signed.rest[LEDGER], "the ledger")
        used: dict[str, bytes] = {}
        for name, digest in signed.base.items():
            changes = _of(ledger, used, ledger.changes) if digest != signed.model[name] else None
            found = _write_model_file(certified / MODEL, name, folder, changes)
            _require(name, found.after, digest, "the base, with the ledger's values put back,")
            used |= dict.fromkeys(found.replaced, b"")
        _require_all(ledger, used)
        return _outcome(out, folder, ledger, signed)


def _open(folder: Path, keys: Sequence[Path]) -> Signed:
    """Read the manifest, with its signature where keys are given; UsageError ME301 for one that no patch can be of."""
    if not (folder / MANIFEST).is_file():
        raise _unusable("there is no manifest", f"a folder with {MANIFEST}", str(folder))
    data = read_regular(MANIFEST, root=folder, limit=MAX_BYTES)
    signer = None
    if keys:
        opened = unseal(data, [load_public(key) for key in keys])
        statement, signer = opened.statement, opened.key_fingerprint
    else:
        statement = read_unverified(data, certificates=True)
    base = {file.name: file.sha256 for file in statement.predicate.base.files}
    subjects = {subject.name: subject.digest.sha256 for subject in statement.subject}
    model = {name.removeprefix(_PREFIX): sha for name, sha in subjects.items() if name.startswith(_PREFIX)}
    rest = {name: sha for name, sha in subjects.items() if not name.startswith(_PREFIX)}
    odd = sorted(base.keys() ^ model.keys())
    if odd or LEDGER not in rest or rest.keys() & {MANIFEST, SIGNATURE, EDITED}:
        expected = "a ledger, and a base and a model of the same files"
        raise _unusable("the manifest is of no base with a patch", expected, shown(odd[0]) if odd else "none")
    return Signed(data, statement, base, model, rest, signer)


def _copy_rest(source: Path, folder: Path, signed: Signed) -> None:
    """Copy all but the model: signed files with their digests checked, the manifest and model.sig as they are."""
    for name, digest in signed.rest.items():
        with open_regular(name, root=source, limit=None if name == LEDGER else _LARGEST) as file:
            found = _copied(file, folder / name)
        _require(name, found, digest, "the file")
    write_atomic(folder / MANIFEST, signed.manifest)
    if os.path.lexists(source / SIGNATURE):
        write_atomic(folder / SIGNATURE, read_regular(SIGNATURE, root=source, limit=MAX_BYTES))


def _copied(file: OpenFile, path: Path) -> str:
    """Copy a file by the piece; return its digest."""
    digest = hashlib.sha256()

    def write(sink: BinaryIO) -> None:
        for start in range(0, file.size, _PIECE):
            part = file.read(start, min(start + _PIECE, file.size))
            digest.update(part)
            sink.write(part)
        file.require_same_size()

    _written(path, write)
    return digest.hexdigest()


def _written(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a new file and have it on the disk; its folder gets its name only once all is there (`staging`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as sink:
        write(sink)
        sink.flush()
        os.fsync(sink.fileno())


def _rewritten(
    root: Path, name: str, changes: Callable[[str], Changes | None], sink: BinaryIO | None = None
) -> Rewritten:
    with open_regular(name, root=root) as file:
        return rewrite(file, read_layout(file.read, file.size, name=name), changes, sink)


def _write_model_file(
    root: Path, name: str, folder: Path, changes: Callable[[str], Changes | None] | None
) -> Rewritten:
    """Write a file of the model, with the changes of its tensors if it has any."""
    if changes is None:
        with open_regular(name, root=root) as file:
            digest = _copied(file, folder / name)
        return Rewritten(digest, digest, {})
    found: list[Rewritten] = []
    _written(folder / name, lambda sink: found.append(_rewritten(root, name, changes, sink)))
    return found[0]


def _of(
    ledger: LedgerStream, used: Mapping[str, object], changes: Callable[[str], Changes]
) -> Callable[[str], Changes | None]:
    """Return a tensor's changes, or None; UsageError ME301 where a tensor of the ledger is in two files."""

    def found(tensor: str) -> Changes | None:
        if tensor not in ledger.columns:
            return None
        if tensor in used:
            raise _unusable("a tensor of the ledger is in two files", "each in one", shown(tensor))
        return changes(tensor)

    return found


class _Edited:
    """The edited values on disk, beside their ledger."""

    def __init__(self, file: OpenFile, ledger: LedgerStream) -> None:
        """Read the header; ArtefactError MV110 or MV121, and UsageError ME301 for another format or other tensors."""
        self._file, self._ledger = file, ledger
        self._layout = read_layout(file.read, file.size, name=file.name)
        names = {tensor + SUFFIX for tensor in ledger.columns}
        if self._layout.metadata != {"format": FORMAT} or self._layout.tensors.keys() != names:
            expected = f"format {FORMAT}, and one {SUFFIX} for each tensor of the ledger"
            raise _unusable(f"{EDITED} is not that of this ledger", expected, shown(self._layout.metadata))
        for tensor, columns in ledger.columns.items():
            require_same_columns(columns, self._layout.tensors[tensor + SUFFIX], tensor + SUFFIX)

    def changes(self, tensor: str) -> Changes:
        """Return one tensor's indices with its edited values."""
        view = self._layout.tensors[tensor + SUFFIX]
        bits = np.frombuffer(self._file.read(view.start, view.stop), f"<u{SIZES[view.dtype]}")
        return replace(self._ledger.changes(tensor), base=bits)


def _write_edited(path: Path, ledger: LedgerStream, edited: Mapping[str, bytes]) -> None:
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

    _written(path, write)


def _outcome(out: Path, folder: Path, ledger: LedgerStream, signed: Signed) -> Outcome:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Outcome(out, len(files), sum(path.stat().st_size for path in files), ledger.masked, signed.signer)


def _require_base(base: Path, name: str, digest: str) -> None:
    """Raise UsageError ME302 unless a file of the base is the one that was edited."""
    try:
        with open_regular(name, root=base) as file:
            found = file.sha256()
    except ArtefactError as error:
        found = error.found or error.message
    if found != digest:
        raise UsageError(
            f"this is not the base that was edited: {shown(name)}",
            expected=f"sha256 {digest}",
            found=found,
            remedy="give the base model's folder as its vendor published it, in the revision that the manifest names",
            error_id="ME302",
        )


def _require(name: str, found: str, digest: str, what: str) -> None:
    """Raise UsageError ME303 unless a digest is the manifest's."""
    if found != digest:
        raise UsageError(
            f"{what} is not as the manifest says: {shown(name)}",
            expected=f"sha256 {digest}",
            found=found,
            remedy="obtain the folder again from its producer; nothing was written",
            error_id="ME303",
        )


def _require_all(ledger: LedgerStream, used: Mapping[str, object]) -> None:
    left = sorted(ledger.columns.keys() - used.keys())
    if left:
        raise _unusable("a tensor of the ledger is in no file that was edited", "each in one", shown(left[0]))


def _unusable(what: str, expected: str, found: str) -> UsageError:
    remedy = "give the folder that mansu unlearn or mansu patch wrote, whole"
    return UsageError(what, expected=expected, found=found, remedy=remedy, error_id="ME301")
