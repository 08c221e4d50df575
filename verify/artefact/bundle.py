"""The manifest file: an in-toto statement in RFC 8785 form, in a DSSE envelope, in a Sigstore bundle v0.3."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from verify.artefact import envelope
from verify.artefact.certificates import CertificateTrust, Leaf, now
from verify.artefact.envelope import BAD_SIGNATURE, MALFORMED, require_fields, require_type, shown, strict_json
from verify.artefact.files import relative_parts
from verify.artefact.keys import fingerprint
from verify.artefact.material import Material, read_material, write_material
from verify.contract.manifest import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Statement, Subject
from verify.errors import ArtefactError, UsageError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Opened:
    """A verified manifest: the statement, whose key signed it, and the sha256 of the signed payload.

    `identity` is whom the certificate names, where the signature was trusted by one.
    """

    statement: Statement
    key_fingerprint: str
    payload_sha256: str
    identity: str | None = None


@dataclass(frozen=True)
class Unpacked:
    """A payload whose signature holds, the fingerprint of the key that made it, and its certificate if it has one."""

    payload: bytes
    key_fingerprint: str
    leaf: Leaf | None = None


def seal(statement: Statement, private_key: ec.EllipticCurvePrivateKey, chain: Sequence[bytes] = ()) -> bytes:
    """Return the signed manifest file; `chain` is the signer's certificate and its intermediates, DER, if it has any.

    Raises ArtefactError MV102 for a statement that `unseal` would refuse, UsageError unless the key is P-256.
    """
    payload = canonical(statement.model_dump(mode="json", by_alias=True))
    read_statement(payload)
    return pack(payload, PAYLOAD_TYPE, private_key, write_material(fingerprint(private_key.public_key()), chain))


def unseal(
    data: bytes,
    public_keys: Sequence[ec.EllipticCurvePublicKey],
    certificates: CertificateTrust | None = None,
    *,
    at: datetime | None = None,
) -> Opened:
    """Verify a manifest file with the user's keys, or roots and identity, and return it.

    A certificate must be trusted at `at` (now), and the manifest's own time of creation must lie in the leaf's. Raises
    ArtefactError MV102 (malformed; a certificate where none is asked for), MV103 (signature invalid or not of anybody
    trusted), MV104 (another payload, statement or predicate type); UsageError when nobody is trusted.
    """
    verified = unpack(data, public_keys, certificates, payload_type=PAYLOAD_TYPE, at=at)
    statement = read_statement(verified.payload)
    if verified.leaf is not None:
        verified.leaf.require_made_within(statement.predicate.created)
    digest = hashlib.sha256(verified.payload).hexdigest()
    identity = None if verified.leaf is None else verified.leaf.identity
    return Opened(statement, verified.key_fingerprint, digest, identity)


def read_unverified(data: bytes, *, certificates: bool = False) -> Statement:
    """Return the statement *without* verifying its signature: for display and for the case that no key is given.

    Everything but the signature is as strict as in `unseal` (MV102, MV104); `certificates` tells whether a bundle may
    carry any.
    """
    return read_statement(unverified_payload(data, certificates=certificates))


def signed_by(data: bytes, public_key: ec.EllipticCurvePublicKey) -> bool:
    """Tell whether this very key signed a manifest file, whatever key its hint or its certificate names."""
    try:
        content, _ = read_bundle(data, name="manifest")
        envelope.verify(replace(content, keyid=""), [public_key], payload_type=PAYLOAD_TYPE, name="manifest")
    except ArtefactError:
        return False
    return True


def pack(
    payload: bytes,
    payload_type: str,
    private_key: ec.EllipticCurvePrivateKey,
    material: dict[str, object] | None = None,
) -> bytes:
    """Sign any payload and return the bundle file; without other material the key is named by its fingerprint only."""
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material or write_material(fingerprint(private_key.public_key())),
        "dsseEnvelope": envelope.sign(payload, payload_type, private_key),
    }
    return canonical(bundle)


def unpack(
    data: bytes,
    public_keys: Sequence[ec.EllipticCurvePublicKey],
    certificates: CertificateTrust | None = None,
    *,
    payload_type: str,
    at: datetime | None = None,
    name: str = "manifest",
    hint: Callable[[ec.EllipticCurvePublicKey], str] = fingerprint,
) -> Unpacked:
    """Return the payload of a bundle file that somebody trusted signed as `payload_type`.

    `hint` is how the format names a key; it only selects among the keys given: a key that comes with the bundle is
    never used, and a certificate only through the roots and the identity of `certificates`, at the time `at` (now).
    """
    if not public_keys and certificates is None:
        raise UsageError("no public key to verify with", remedy="give the producer's public key")
    content, material = read_bundle(data, name=name)
    if material.chain:
        if certificates is None:
            raise _certificate_unasked(name)
        leaf = certificates.leaf(material.chain, at or now())
        verified = envelope.verify(content, [leaf.key], payload_type=payload_type, name=name)
        return Unpacked(verified.payload, verified.key_fingerprint, leaf)
    chosen = [key for key in public_keys if hint(key) == material.hint]
    if not chosen:
        expected = " or ".join(hint(key) for key in public_keys) or "a certificate of the identity given"
        remedy = "give the producer's public key, obtained from the producer and not from the artefact"
        message = f"{name}: signed by a key you do not trust"
        raise ArtefactError(BAD_SIGNATURE, message, expected=expected, found=shown(material.hint), remedy=remedy)
    verified = envelope.verify(content, chosen, payload_type=payload_type, name=name)
    return Unpacked(verified.payload, verified.key_fingerprint)


def unverified_payload(data: bytes, *, name: str = "manifest", certificates: bool = False) -> bytes:
    """Return the in-toto payload of a bundle file *without* verifying its signature (MV102, MV104)."""
    content, material = read_bundle(data, name=name)
    if material.chain and not certificates:
        raise _certificate_unasked(name)
    if material.hint is not None and content.keyid not in {"", material.hint}:
        message = f"{name}: keyid names another key than the hint"
        raise ArtefactError(MALFORMED, message, expected=shown(material.hint), found=shown(content.keyid))
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


def read_bundle(data: bytes, *, name: str) -> tuple[envelope.Envelope, Material]:
    """Return the envelope and the verification material of a well-formed bundle; ArtefactError MV102."""
    value = strict_json(data, check_id=MALFORMED, name=name)
    fields = require_fields(value, ("mediaType", "verificationMaterial", "dsseEnvelope"), name=name)
    if fields["mediaType"] != MEDIA_TYPE:
        raise ArtefactError(MALFORMED, f"{name}: mediaType", expected=MEDIA_TYPE, found=shown(fields["mediaType"]))
    material = read_material(fields["verificationMaterial"], name=name)
    document = require_fields(
        fields["dsseEnvelope"], ("payload", "payloadType", "signatures"), name=f"{name}: dsseEnvelope"
    )
    return envelope.read(document, name=name), material


def _certificate_unasked(name: str) -> ArtefactError:
    return ArtefactError(
        MALFORMED,
        f"{name}: it carries a certificate",
        expected="a key's hint, as no root was given",
        remedy="if you trust its signer by certificate, give --cert-root and --cert-identity",
    )


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
