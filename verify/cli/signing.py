"""`--sign-with`: the verifier's signed report beside result.json, and on PASS an SVR (docs/reports.md).

Both are withdrawn before the check begins and written last, each as a whole. So whatever ends a run early, no signed
file of an earlier run is left to be taken for this one's, and none speaks of files that were not written.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from verify.cli.arguments import require_outside
from verify.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from verify.contract.result import Result
    from verify.contract.verification import BoundFile, VerificationStatement

MEDIA_TYPES = {
    "card": "text/markdown",
    "html": "text/html",
    "json": "application/json",
    "junit": "application/xml",
    "markdown": "text/markdown",
    "pdf": "application/pdf",
    "sarif": "application/sarif+json",
    "text": "text/plain",
}
PLATFORM = ("mansu", "bitsandbytes", "cryptography", "numpy", "torch", "transformers")
"""Packages whose versions the report names."""
_OWN_KEY = "make a pair for the verifier alone with: mansu keygen --out verifier-keys/"


@dataclass(frozen=True)
class Written:
    """A report as it was written: its form, where, and its exact bytes."""

    form: str
    path: Path
    data: bytes


@dataclass(frozen=True, eq=False)
class Signing:
    """The verifier's key, and where its signed files go."""

    key: "ec.EllipticCurvePrivateKey"
    report: Path
    svr: Path


def prepare(
    sign_with: Path | None, targets: Sequence[tuple[str, Path]], *, model: Path, manifest: Path, keys: Sequence[Path]
) -> Signing | None:
    """Read the key, see that nothing stands in the way, and withdraw what an earlier run signed at the same place.

    Returns None where no key was given, so that nothing is to be signed. `targets` are form and path of every report
    to be written, among them the result as JSON. Raises UsageError when there is no such result, when two files would
    have one name or a key would be overwritten, and when the key is one of the producer's.
    """
    if sign_with is None:
        return None

    from verify.artefact import load_private, load_public  # noqa: PLC0415  (not needed for help)
    from verify.attestation import report_path, svr_path  # noqa: PLC0415
    from verify.checks.evidence import Place  # noqa: PLC0415

    results = [path for form, path in targets if form == "json"]
    if not results:
        raise UsageError("--sign-with: there is no result to sign", remedy="add --report json=result.json")
    report = report_path(results[0])
    signing = Signing(load_private(sign_with), report, svr_path(report))
    _require_apart([*(path for _, path in targets), signing.report, signing.svr], [sign_with, *keys])
    for path in (signing.report, signing.svr):
        require_outside(path, model, manifest)
    Place.of(model, manifest)
    _require_another(signing, [load_public(path) for path in keys], manifest)
    _withdraw(signing)
    return signing


def finish(signing: Signing | None, result: "Result", written: Sequence[Written]) -> None:
    """Sign the report on a result, if a key was given, and write it, then on PASS the SVR; say so on stderr.

    Raises UsageError when the verifier's key turns out to have signed the certificate.
    """
    if signing is None:
        return

    from verify.artefact import fingerprint, write_atomic  # noqa: PLC0415  (not needed for help)
    from verify.artefact.attestation import seal_attestation  # noqa: PLC0415
    from verify.attestation import svr_statement  # noqa: PLC0415

    own = fingerprint(signing.key.public_key())
    statement = _statement(signing, result, written)
    write_atomic(signing.report, seal_attestation(statement, signing.key))
    signed = [signing.report]
    if result.verdict == "PASS":
        write_atomic(signing.svr, seal_attestation(svr_statement(statement), signing.key))
        signed.append(signing.svr)
    typer.echo(f"signed with {own}: {', '.join(map(str, signed))}", err=True)


def sealed(signing: Signing | None, result: "Result", name: str, data: bytes) -> bytes | None:
    """Return a signed report that binds the result's JSON file alone, `data` under `name`; None without a key.

    A PDF carries it, which the report beside it binds in turn. Raises UsageError as `finish` does.
    """
    if signing is None:
        return None

    from verify.artefact.attestation import seal_attestation  # noqa: PLC0415  (not needed for help)

    statement = _statement(signing, result, [Written("json", Path(name), data)])
    return seal_attestation(statement, signing.key)


def _statement(signing: Signing, result: "Result", written: Sequence[Written]) -> "VerificationStatement":
    from verify.artefact import fingerprint  # noqa: PLC0415  (not needed for help)
    from verify.attestation import report_statement  # noqa: PLC0415

    own = fingerprint(signing.key.public_key())
    if result.trust.key_fingerprint == own:
        raise _producers_own(own)
    first = next(entry for entry in written if entry.form == "json")
    others = [_bound(entry) for entry in written if entry is not first]
    versions = {name: version(name) for name in PLATFORM}
    return report_statement(result, _bound(first), others, versions=versions)


def _bound(entry: Written) -> "BoundFile":
    from verify.contract.manifest import Digest  # noqa: PLC0415  (not needed for help)
    from verify.contract.verification import BoundFile  # noqa: PLC0415

    digest = Digest(sha256=hashlib.sha256(entry.data).hexdigest())
    media_type = MEDIA_TYPES.get(entry.form, "application/octet-stream")
    return BoundFile(name=entry.path.name, mediaType=media_type, digest=digest)


def _require_apart(outputs: Sequence[Path], keys: Sequence[Path]) -> None:
    """Refuse to write two files to one place or under one name, and to write over a key."""
    for path in outputs:
        if any(_places(path) & _places(key) for key in keys):
            raise UsageError(f"{path} is a key", remedy="write it elsewhere, for instance to report/")
        if not path.name.isprintable() or {"\\", ":"} & set(path.name):
            raise UsageError(f"{path.name!a}: a name that a report cannot hold", remedy="choose a plain name")
    names = [path.name for path in outputs]
    for name in names:
        if names.count(name) > 1:
            remedy = "give each report a name of its own: the signed report names them without their folders"
            raise UsageError(f"two files would be called {name}", remedy=remedy)


def _places(path: Path) -> set[Path]:
    """Return where a path lies, and what it is a link to."""
    return {path.parent.resolve() / path.name, path.resolve()}


def _require_another(signing: Signing, producers: Sequence["ec.EllipticCurvePublicKey"], manifest: Path) -> None:
    """Refuse the key of a producer: one that the user trusts as such, or the one that signed this manifest."""
    from verify.artefact import fingerprint, read_regular  # noqa: PLC0415  (not needed for help)
    from verify.artefact.bundle import signed_by  # noqa: PLC0415
    from verify.artefact.envelope import MAX_BYTES  # noqa: PLC0415

    public = signing.key.public_key()
    own = fingerprint(public)
    if own in map(fingerprint, producers):
        raise _producers_own(own)
    try:
        data = read_regular(manifest.name, root=manifest.parent, limit=MAX_BYTES)
    except ArtefactError:
        return  # the check itself will say so
    if signed_by(data, public):
        raise _producers_own(own)


def _producers_own(fingerprint: str) -> UsageError:
    expected = "a key of the verifier's own: nobody can vouch for a certificate of their own"
    return UsageError("--sign-with: the key is the producer's", expected=expected, found=fingerprint, remedy=_OWN_KEY)


def _withdraw(signing: Signing) -> None:
    """Remove what an earlier run signed, the SVR first."""
    for path in (signing.svr, signing.report):
        try:
            if os.path.lexists(path):
                path.unlink()
        except OSError as error:
            raise UsageError(f"cannot remove {path}: {error.strerror}", remedy="write elsewhere") from error
