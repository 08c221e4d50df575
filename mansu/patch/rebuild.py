"""A patch of a certificate, the certificate of a patch and a base, and the base of a certificate."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mansu.patch.edited_values import EDITED, EditedValues, write_edited
from mansu.patch.refusals import require_all_tensors, require_base, require_digest, unusable
from mansu.patch.signed import Signed, open_signed
from mansu.patch.writing import copy_file, rewrite_file, write_model_file
from mansu.staging import LEDGER, MANIFEST, MODEL, SIGNATURE, refuse_existing, staging
from verify.artefact import Changes, LedgerStream, open_regular, read_regular, shown, write_atomic
from verify.artefact.envelope import MAX_BYTES

_LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is copied whole: probes and signatures."""


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
    signed = open_signed(certified, keys)
    with staging(out, "the patch") as folder, ExitStack() as stack:
        _copy_rest(certified, folder, signed)
        ledger = LedgerStream(stack.enter_context(open_regular(LEDGER, root=certified)))
        edited: dict[str, bytes] = {}
        for name in signed.changed():
            found = rewrite_file(certified / MODEL, name, _changes_of(ledger, edited, ledger.changes))
            require_digest(name, found.before, signed.model[name], "the certified model")
            require_digest(name, found.after, signed.base[name], "the base, with the ledger's values put back,")
            edited |= found.replaced
        require_all_tensors(ledger, edited)
        write_edited(folder / EDITED, ledger, edited)
        return _outcome(out, folder, ledger, signed)


def apply(patch: Path, base: Path, out: Path, keys: Sequence[Path] = ()) -> Outcome:
    """Rebuild a certificate's folder from its patch and the base model: the same files, byte for byte.

    The base's digests are checked first, and those of what was written before the folder gets its name. Raises
    `UsageError` ME301 for a folder that is no patch, ME302 for another base, ME303 where a file does not come out as
    the manifest says, ME220 for an output that exists or cannot be written; `ArtefactError` for files that cannot be
    read (MV101) or are malformed (MV102, MV104, MV110, MV120, MV121), MV103 for a signature that is not by `keys`.
    """
    refuse_existing(out)
    signed = open_signed(patch, keys)
    for name, digest in signed.base.items():
        require_base(base, name, digest)
    with staging(out) as folder, ExitStack() as stack:
        _copy_rest(patch, folder, signed)
        ledger = LedgerStream(stack.enter_context(open_regular(LEDGER, root=patch)))
        values = EditedValues(stack.enter_context(open_regular(EDITED, root=patch)), ledger)
        used: dict[str, bytes] = {}
        for name, digest in signed.model.items():
            changes = _changes_of(ledger, used, values.changes) if digest != signed.base[name] else None
            found = write_model_file(base, name, folder / MODEL, changes)
            require_digest(name, found.before, signed.base[name], "the base, while it was read,")
            require_digest(name, found.after, digest, "what the patch makes of the base")
            used |= dict.fromkeys(found.replaced, b"")
        require_all_tensors(ledger, used)
        return _outcome(out, folder, ledger, signed)


def revert(certified: Path, out: Path, keys: Sequence[Path] = ()) -> Outcome:
    """Rebuild the base model's folder from a certificate's, byte for byte. See `apply` for the errors."""
    refuse_existing(out)
    signed = open_signed(certified, keys)
    with staging(out, "the base model") as folder, ExitStack() as stack:
        file = stack.enter_context(open_regular(LEDGER, root=certified))
        ledger = LedgerStream(file)
        require_digest(LEDGER, ledger.sha256, signed.rest[LEDGER], "the ledger")
        used: dict[str, bytes] = {}
        for name, digest in signed.base.items():
            changes = _changes_of(ledger, used, ledger.changes) if digest != signed.model[name] else None
            found = write_model_file(certified / MODEL, name, folder, changes)
            require_digest(name, found.after, digest, "the base, with the ledger's values put back,")
            used |= dict.fromkeys(found.replaced, b"")
        require_all_tensors(ledger, used)
        return _outcome(out, folder, ledger, signed)


def _copy_rest(source: Path, folder: Path, signed: Signed) -> None:
    """Copy all but the model: signed files with their digests checked, the manifest and model.sig as they are."""
    for name, digest in signed.rest.items():
        with open_regular(name, root=source, limit=None if name == LEDGER else _LARGEST) as file:
            found = copy_file(file, folder / name)
        require_digest(name, found, digest, "the file")
    write_atomic(folder / MANIFEST, signed.manifest)
    if os.path.lexists(source / SIGNATURE):
        write_atomic(folder / SIGNATURE, read_regular(SIGNATURE, root=source, limit=MAX_BYTES))


def _outcome(out: Path, folder: Path, ledger: LedgerStream, signed: Signed) -> Outcome:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Outcome(out, len(files), sum(path.stat().st_size for path in files), ledger.masked, signed.signer)


def _changes_of(
    ledger: LedgerStream, used: Mapping[str, object], changes: Callable[[str], Changes]
) -> Callable[[str], Changes | None]:
    """Return a tensor's changes, or None; UsageError ME301 where a tensor of the ledger is in two files."""

    def found(tensor: str) -> Changes | None:
        if tensor not in ledger.columns:
            return None
        if tensor in used:
            raise unusable("a tensor of the ledger is in two files", "each in one", shown(tensor))
        return changes(tensor)

    return found
