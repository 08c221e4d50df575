"""Signatures (MV103, MV112): who vouches for the manifest and for the model's folder, among those the user trusts."""

import os
from collections.abc import Mapping
from pathlib import Path

from verify.artefact import read_regular, unseal
from verify.artefact.anchors import BaseSignature
from verify.artefact.bundle import Opened
from verify.artefact.envelope import MAX_BYTES
from verify.artefact.oms import SignedFolder
from verify.artefact.oms import read as read_oms
from verify.artefact.signing import Trusted
from verify.checks.catalog import decided, passed, refused, undecided
from verify.contract.result import CheckResult
from verify.errors import ArtefactError

MODEL_SIGNATURE = "model.sig"
_NO_KEY = "give the producer's public key with --key, obtained from the producer and not with the files"
_OTHER_FOLDER = "do not use model.sig: it is not a signature of these files by anybody you trust"


def manifest_signature(data: bytes, trusted: Trusted) -> tuple[CheckResult, Opened | None]:
    """MV103: return the check, and the manifest as signed. While nobody is trusted it stays undecided."""
    expected = _expected(trusted)
    if not trusted:
        return undecided("MV103", expected, "no key was given, so nobody vouches for the manifest", _NO_KEY), None
    try:
        opened = unseal(data, trusted.keys, trusted.certificates)
    except ArtefactError as error:
        return refused(error), None
    by = "" if opened.identity is None else f", certified for {opened.identity!a}"
    return passed("MV103", expected, f"signed by {opened.key_fingerprint}{by}"), opened


def model_signature(folder: Path, digests: Mapping[str, str], trusted: Trusted) -> CheckResult:
    """MV112: model.sig beside the manifest, if there is one, is a trusted signature over exactly the model's files.

    `digests` are those of the model's files, by their name in its folder. The file is no subject of the manifest: it is
    a second signature over the same files, for tools that read no other, and nothing else rests on it.
    """
    expected = "if there is a model.sig, a signature by whom the user trusts over exactly the model's files"
    if not os.path.lexists(folder / MODEL_SIGNATURE):
        return passed("MV112", expected, "there is no model.sig")
    if not trusted:
        return undecided("MV112", expected, "no key was given, so nobody vouches for model.sig", _NO_KEY)
    try:
        signed = read_oms(read_regular(MODEL_SIGNATURE, root=folder, limit=MAX_BYTES), trusted, check_id="MV112")
    except ArtefactError as error:
        return refused(error)
    wrong = signed.difference(digests)
    found = wrong or f"{len(signed.files)} files, signed by {signed.key_fingerprint}"
    return decided("MV112", expected, found, _OTHER_FOLDER, holds=not wrong)


def base_signature(signature: BaseSignature) -> SignedFolder:
    """Return what the vendor signed; ArtefactError MV107 unless the bundle is the vendor's, file by file."""
    return read_oms(signature.bundle, Trusted((signature.key,)), check_id="MV107")


def _expected(trusted: Trusted) -> str:
    if trusted.certificates is None:
        return "one ECDSA P-256 signature by a key the user gave"
    by_key = "by a key the user gave, or " if trusted.keys else ""
    identity = ascii(trusted.certificates.identity)
    return f"one ECDSA P-256 signature {by_key}certified for {identity} under a root the user gave"
