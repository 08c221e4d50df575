"""The manifest file: an in-toto statement in RFC 8785 form, in a DSSE envelope, in a Sigstore bundle v0.3."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from verify.artefact import envelope
from verify.artefact.envelope import BAD_SIGNATURE, MALFORMED, require_fields, require_type, shown, strict_json
from verify.artefact.files import relative_parts
from verify.artefact.keys import fingerprint
from verify.contract.manifest import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Statement, Subject
from verify.errors import ArtefactError, UsageError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

S = TypeVar("S", bound=BaseModel)


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
    payload = canonical(statement.model_dump(mode="json", by_alias=True))
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
    return read_statement(unverified_payload(data))


def signed_by(data: bytes, public_key: ec.EllipticCurvePublicKey) -> bool:
    """Tell whether this very key signed a manifest file, whatever key its hint names."""
    try:
        document, _ = _bundle(data, "manifest")
        envelope.verify(document, [public_key], payload_type=PAYLOAD_TYPE, name="manifest")
    except ArtefactError:
        return False
    return True


def pack(payload: bytes, payload_type: str, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign any payload and return the bundle file; the key is named by its fingerprint only."""
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(private_key.public_key())}},
        "dsseEnvelope": envelope.sign(payload, payload_type, private_key),
    }
    return canonical(bundle)


def unpack(
    data: bytes, public_keys: Sequence[ec.EllipticCurvePublicKey], *, payload_type: str, name: str = "manifest"
) -> envelope.Verified:
    """Return the payload of a bundle file that one of `public_keys` signed as `payload_type`; `name` is for messages.

    The hint only selects among the keys given: a key that comes with the bundle is never used.
    """
    if not public_keys:
        raise UsageError("no public key to verify with", remedy="give the producer's public key")
    document, hint = _bundle(data, name)
    chosen = [key for key in public_keys if fingerprint(key) == hint]
    if not chosen:
        expected = " or ".join(fingerprint(key) for key in public_keys)
        remedy = "give the producer's public key, obtained from the producer and not from the artefact"
        message = f"{name}: signed by a key you do not trust"
        raise ArtefactError(BAD_SIGNATURE, message, expected=expected, found=shown(hint), remedy=remedy)
    return envelope.verify(document, chosen, payload_type=payload_type, name=name)


def unverified_payload(data: bytes, *, name: str = "manifest") -> bytes:
    """Return the in-toto payload of a bundle file *without* verifying its signature (MV102, MV104)."""
    document, _ = _bundle(data, name)
    content = envelope.read(document, name=name)
    require_type(content.payload_type, PAYLOAD_TYPE, name=f"{name}: payloadType")
    return content.payload


def read_statement(payload: bytes) -> Statement:
    """Return the statement of a payload in RFC 8785 form, of our predicate type, with safe and distinct subjects."""
    return read_as(payload, Statement, PREDICATE_TYPE, name="manifest")


def read_as(payload: bytes, kind: type[S], predicate_type: str, *, name: str) -> S:
    """Return a payload in RFC 8785 form as the in-toto statement `kind`, with safe and distinct subjects."""
    value = strict_json(payload, check_id=MALFORMED, name=f"{name}: payload")
    if not isinstance(value, dict):
        raise ArtefactError(MALFORMED, f"{name}: payload", expected="an object", found=shown(value))
    require_type(value.get("_type"), STATEMENT_TYPE, name=f"{name}: _type")
    require_type(value.get("predicateType"), predicate_type, name=f"{name}: predicateType")
    if canonical(value, name=name) != payload:
        raise ArtefactError(MALFORMED, f"{name}: payload is not in canonical form", expected="RFC 8785")
    try:
        statement = kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # a list of the values allowed would put the word PASS into the refusal of a report
        reason = "not a value allowed" if first["type"] == "literal_error" else shown(first["msg"])
        found = f"{'.'.join(shown(part) for part in first['loc'])}: {reason}"
        raise ArtefactError(MALFORMED, f"{name}: not a valid statement", found=found) from error
    _require_subjects(statement.subject, name)  # type: ignore[attr-defined]  # every statement has subjects
    return statement


def _bundle(data: bytes, name: str) -> tuple[dict[str, object], str]:
    """Return the envelope object and the key hint of a well-formed bundle."""
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


def _require_subjects(subjects: Sequence[Subject], name: str) -> None:
    seen: set[str] = set()
    for subject in subjects:
        relative_parts(subject.name, check_id=MALFORMED)
        if subject.name in seen:
            raise ArtefactError(MALFORMED, f"{name}: a subject is named twice", found=shown(subject.name))
        seen.add(subject.name)


def canonical(value: object, *, name: str = "manifest") -> bytes:
    """Return the RFC 8785 form; MV102 for what has none (integers beyond 53 bits)."""
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # checked by rfc8785 itself
    except rfc8785.CanonicalizationError as error:
        message = f"{name}: a value has no RFC 8785 form"
        raise ArtefactError(MALFORMED, message, found=shown(str(error))) from error
