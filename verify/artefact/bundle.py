"""The manifest file: an in-toto statement in RFC 8785 form, in a DSSE envelope, in a Sigstore bundle v0.3."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from verify.artefact import envelope
from verify.artefact.envelope import BAD_SIGNATURE, MALFORMED, require_fields, require_type, shown, strict_json
from verify.artefact.files import relative_parts
from verify.artefact.keys import fingerprint
from verify.contract.manifest import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Statement
from verify.errors import ArtefactError, UsageError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Opened:
    """A verified manifest: the statement, whose key signed it, and the sha256 of the signed payload."""

    statement: Statement
    key_fingerprint: str
    payload_sha256: str


def seal(statement: Statement, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signed manifest file.

    Raises ArtefactError MV102 for a statement that `unseal` would refuse, UsageError unless the key is P-256.
    """
    payload = _canonical(statement.model_dump(mode="json", by_alias=True))
    read_statement(payload)
    return pack(payload, PAYLOAD_TYPE, private_key)


def unseal(data: bytes, public_keys: Sequence[ec.EllipticCurvePublicKey]) -> Opened:
    """Verify a manifest file with the user's keys and return it.

    Raises ArtefactError MV102 (malformed), MV103 (signature invalid or another key's), MV104 (another payload,
    statement or predicate type); UsageError when no key is given.
    """
    verified = unpack(data, public_keys, payload_type=PAYLOAD_TYPE)
    statement = read_statement(verified.payload)
    return Opened(statement, verified.key_fingerprint, hashlib.sha256(verified.payload).hexdigest())


def read_unverified(data: bytes) -> Statement:
    """Return the statement *without* verifying its signature: for display and for the case that no key is given.

    Everything but the signature is as strict as in `unseal` (MV102, MV104).
    """
    document, _ = _bundle(data)
    content = envelope.read(document, name="manifest")
    require_type(content.payload_type, PAYLOAD_TYPE, name="manifest: payloadType")
    return read_statement(content.payload)


def pack(payload: bytes, payload_type: str, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign any payload and return the bundle file; the key is named by its fingerprint only."""
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(private_key.public_key())}},
        "dsseEnvelope": envelope.sign(payload, payload_type, private_key),
    }
    return _canonical(bundle)


def unpack(data: bytes, public_keys: Sequence[ec.EllipticCurvePublicKey], *, payload_type: str) -> envelope.Verified:
    """Return the payload of a bundle file that one of `public_keys` signed as `payload_type`.

    The hint only selects among the keys given: a key that comes with the bundle is never used.
    """
    if not public_keys:
        raise UsageError("no public key to verify with", remedy="give the producer's public key")
    document, hint = _bundle(data)
    chosen = [key for key in public_keys if fingerprint(key) == hint]
    if not chosen:
        expected = " or ".join(fingerprint(key) for key in public_keys)
        remedy = "give the producer's public key, obtained from the producer and not from the artefact"
        message = "manifest: signed by a key you do not trust"
        raise ArtefactError(BAD_SIGNATURE, message, expected=expected, found=shown(hint), remedy=remedy)
    return envelope.verify(document, chosen, payload_type=payload_type, name="manifest")


def read_statement(payload: bytes) -> Statement:
    """Return the statement of a payload in RFC 8785 form, of our predicate type, with safe and distinct subjects."""
    value = strict_json(payload, check_id=MALFORMED, name="manifest: payload")
    if not isinstance(value, dict):
        raise ArtefactError(MALFORMED, "manifest: payload", expected="an object", found=shown(value))
    require_type(value.get("_type"), STATEMENT_TYPE, name="manifest: _type")
    require_type(value.get("predicateType"), PREDICATE_TYPE, name="manifest: predicateType")
    if _canonical(value) != payload:
        raise ArtefactError(MALFORMED, "manifest: payload is not in canonical form", expected="RFC 8785")
    try:
        statement = Statement.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(shown(part) for part in first['loc'])}: {shown(first['msg'])}"
        raise ArtefactError(MALFORMED, "manifest: not a valid statement", found=found) from error
    _require_subjects(statement)
    return statement


def _bundle(data: bytes) -> tuple[dict[str, object], str]:
    """Return the envelope object and the key hint of a well-formed bundle."""
    name = "manifest"
    value = strict_json(data, check_id=MALFORMED, name=name)
    fields = require_fields(value, ("mediaType", "verificationMaterial", "dsseEnvelope"), name=name)
    if fields["mediaType"] != MEDIA_TYPE:
        raise ArtefactError(MALFORMED, f"{name}: mediaType", expected=MEDIA_TYPE, found=shown(fields["mediaType"]))
    material = require_fields(fields["verificationMaterial"], ("publicKey",), name=f"{name}: verificationMaterial")
    public_key = require_fields(material["publicKey"], ("hint",), name=f"{name}: publicKey")
    hint = envelope.require_string(public_key["hint"], name=f"{name}: hint")
    document = require_fields(
        fields["dsseEnvelope"], ("payload", "payloadType", "signatures"), name=f"{name}: dsseEnvelope"
    )
    return document, hint


def _require_subjects(statement: Statement) -> None:
    seen: set[str] = set()
    for subject in statement.subject:
        relative_parts(subject.name, check_id=MALFORMED)
        if subject.name in seen:
            raise ArtefactError(MALFORMED, "manifest: a subject is named twice", found=shown(subject.name))
        seen.add(subject.name)


def _canonical(value: object) -> bytes:
    """Return the RFC 8785 form; MV102 for what has none (integers beyond 53 bits)."""
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # checked by rfc8785 itself
    except rfc8785.CanonicalizationError as error:
        message = "manifest: a value has no RFC 8785 form"
        raise ArtefactError(MALFORMED, message, found=shown(str(error))) from error
