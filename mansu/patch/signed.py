"""What a certificate or a patch says of itself: its manifest, and whose signature is on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mansu.patch.edited_values import EDITED
from mansu.patch.refusals import unusable
from mansu.staging import LEDGER, MANIFEST, MODEL, SIGNATURE
from verify.artefact import load_public, read_regular, read_unverified, shown, unseal
from verify.artefact.envelope import MAX_BYTES
from verify.contract.manifest import Statement

_PREFIX = MODEL + "/"


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


def open_signed(folder: Path, keys: Sequence[Path]) -> Signed:
    """Read the manifest, with its signature where keys are given; UsageError ME301 for one that no patch can be of."""
    if not (folder / MANIFEST).is_file():
        raise unusable("there is no manifest", f"a folder with {MANIFEST}", str(folder))
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
        raise unusable("the manifest is of no base with a patch", expected, shown(odd[0]) if odd else "none")
    return Signed(data, statement, base, model, rest, signer)
