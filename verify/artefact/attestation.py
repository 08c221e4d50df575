"""The verifier's signed statements on disk: the report and the SVR, each in the same bundle as the manifest.

Check ids: MV602 malformed, MV603 signature, MV604 another type. A report is never read as an SVR, nor as a manifest.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact import bundle
from verify.artefact.envelope import BAD_SIGNATURE, MALFORMED, WRONG_TYPE
from verify.contract.manifest import PAYLOAD_TYPE
from verify.contract.verification import SVR_TYPE, VERIFICATION_TYPE, SvrStatement, VerificationStatement
from verify.errors import ArtefactError

S = TypeVar("S", VerificationStatement, SvrStatement)

_IDS = {MALFORMED: "MV602", BAD_SIGNATURE: "MV603", WRONG_TYPE: "MV604"}
_REMEDIES = {
    "MV602": "do not use this file: it is not what a verifier wrote; obtain it again",
    "MV603": "give the verifier's public key, obtained from the verifier and not with the report",
    "MV604": "give the file that --sign-with wrote beside the result, such as result.intoto.json",
}
_TYPES: dict[type, str] = {VerificationStatement: VERIFICATION_TYPE, SvrStatement: SVR_TYPE}
_NAMES: dict[type, str] = {VerificationStatement: "report", SvrStatement: "SVR"}


@dataclass(frozen=True)
class Attested(Generic[S]):
    """A statement whose signature holds, and the fingerprint of the given key that made it."""

    statement: S
    key_fingerprint: str


def seal_attestation(statement: S, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signed file of a report or an SVR.

    Raises ArtefactError MV602 for a statement that `unseal_attestation` would refuse, UsageError unless the key is
    P-256.
    """
    kind = type(statement)
    with _own_ids():
        payload = bundle.canonical(statement.model_dump(mode="json", by_alias=True), name=_NAMES[kind])
        _read(payload, kind)
        return bundle.pack(payload, PAYLOAD_TYPE, private_key)


def unseal_attestation(data: bytes, public_keys: Sequence[ec.EllipticCurvePublicKey], kind: type[S]) -> Attested[S]:
    """Verify a signed file as one of `kind` with the user's keys and return it.

    Raises ArtefactError MV602 to MV604; UsageError when no key is given.
    """
    with _own_ids():
        verified = bundle.unpack(data, public_keys, payload_type=PAYLOAD_TYPE, name=_NAMES[kind])
        return Attested(_read(verified.payload, kind), verified.key_fingerprint)


def read_attestation(data: bytes, kind: type[S]) -> S:
    """Return the statement *without* verifying its signature; else as strict as `unseal_attestation`."""
    with _own_ids():
        return _read(bundle.unverified_payload(data, name=_NAMES[kind]), kind)


def _read(payload: bytes, kind: type[S]) -> S:
    return bundle.read_as(payload, kind, _TYPES[kind], name=_NAMES[kind])


@contextmanager
def _own_ids() -> Iterator[None]:
    """Give the errors of the shared reader the ids of a report's checks."""
    try:
        yield
    except ArtefactError as error:
        own = _IDS[error.id]
        raise ArtefactError(
            own, error.message, expected=error.expected, found=error.found, remedy=_REMEDIES[own]
        ) from error
