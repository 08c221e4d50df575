"""DSSE v1 envelopes signed with ECDSA P-256/SHA-256, and the strict JSON reader that every artefact passes through.

Nothing is accepted because it happens to parse: duplicate keys, non-finite numbers, deep nesting, lenient base64
and unknown fields are each a way to show two readers two different documents.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact.keys import fingerprint, require_p256
from verify.errors import ArtefactError, UsageError

MALFORMED = "MV102"
BAD_SIGNATURE = "MV103"
WRONG_TYPE = "MV104"

MAX_DEPTH = 32
MAX_BYTES = 16 * 1024 * 1024
MAX_TOKENS = 1_200_000
"""Strings and brackets: as Python objects they take up to a hundred times their bytes. A header has eight a tensor."""
MAX_DIGITS = 20  # 64-bit integers with sign; more would only cost time

# A string (an unterminated one runs to the end, which keeps the scan linear) or one bracket.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def shown(value: object, limit: int = 80) -> str:
    """Return `value` in ASCII, escaped and shortened: text from an artefact may not speak to a terminal or a log."""
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def strict_json(data: bytes, *, check_id: str, name: str, max_bytes: int = MAX_BYTES) -> object:
    """Parse UTF-8 JSON that has exactly one reading.

    Raises ArtefactError(check_id) for: more than `max_bytes`, no UTF-8, a byte order mark, a key given twice in
    an object (compared after unescaping), NaN and infinities (also as 1e999), integers of more than MAX_DIGITS
    characters and -0, lone surrogates, nesting deeper than MAX_DEPTH, more than MAX_TOKENS strings and brackets, and
    whatever is not JSON (RFC 8259).
    """
    try:
        if len(data) > max_bytes:
            raise ValueError(f"{len(data)} bytes, more than the {max_bytes} allowed")  # noqa: TRY301  (one exit)
        text = data.decode("utf-8")
        _require_shallow(text)
        value: object = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
        if "\\u" in text:  # only an escape can bring in a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError as error:  # JSONDecodeError and the Unicode errors are ValueErrors
        raise ArtefactError(check_id, f"{name}: not strict JSON", expected="JSON", found=str(error)) from error
    return value


def _require_shallow(text: str) -> None:
    depth = 0
    for number, match in enumerate(_TOKEN.finditer(text)):
        if number == MAX_TOKENS:
            raise ValueError(f"more than {MAX_TOKENS} strings and brackets")
        token = match[0]
        if token in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        elif token in ("}", "]"):
            depth -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {shown(key)} is given twice")
            seen.add(key)
    return result


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    if text == "-0":
        raise ValueError("the number -0, which is an integer to some readers and none to others")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {shown(text)} is not finite")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


@dataclass(frozen=True)
class Envelope:
    """A well-formed envelope. Nothing in it is trusted before its signature is verified; `keyid` is "" where absent."""

    payload: bytes
    payload_type: str
    signature: bytes
    keyid: str


@dataclass(frozen=True)
class Verified:
    """A payload whose signature holds, and the fingerprint of the given key that made it."""

    payload: bytes
    key_fingerprint: str


def pae(payload: bytes, payload_type: str) -> bytes:
    """Return DSSE's pre-authentication encoding (DSSE v1, protocol: the bytes that are signed)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, private_key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    """Return the envelope of `payload` as a JSON object with one signature. UsageError unless the key is P-256.

    `keyid` is the key's fingerprint: optional in DSSE, but securesystemslib reads no signature without it.
    """
    require_p256(private_key.curve, name="the signing key")
    signature = private_key.sign(pae(payload, payload_type), ec.ECDSA(hashes.SHA256()))
    keyid = fingerprint(private_key.public_key())
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": keyid}],
    }


def read(document: bytes | dict[str, object], *, name: str = "envelope") -> Envelope:
    """Return a well-formed envelope from JSON bytes or an object that strict_json returned.

    Raises ArtefactError MV102 for unknown or missing fields, no or several signatures, and base64 that is not
    the one canonical form (standard alphabet, padding, no whitespace, no stray bits).
    """
    value = strict_json(document, check_id=MALFORMED, name=name) if isinstance(document, bytes) else document
    fields = require_fields(value, ("payload", "payloadType", "signatures"), name=name)
    signatures = fields["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        count = len(signatures) if isinstance(signatures, list) else shown(signatures)
        raise ArtefactError(MALFORMED, f"{name}: number of signatures", expected="exactly one", found=str(count))
    signature = require_fields(signatures[0], ("sig",), optional=("keyid",), name=f"{name}: signature")
    return Envelope(
        payload=decoded_base64(fields["payload"], name=f"{name}: payload"),
        payload_type=require_string(fields["payloadType"], name=f"{name}: payloadType"),
        signature=decoded_base64(signature["sig"], name=f"{name}: sig"),
        keyid=require_string(signature.get("keyid", ""), name=f"{name}: keyid"),
    )


def verify(
    document: bytes | dict[str, object] | Envelope,
    public_keys: Sequence[ec.EllipticCurvePublicKey],
    *,
    payload_type: str,
    name: str = "envelope",
) -> Verified:
    """Return the payload of an envelope that one of `public_keys` signed.

    Raises ArtefactError: MV102 when malformed or when a keyid names another key than the one that signed, MV103 when no
    given key made the signature, MV104 when it is signed as another type than `payload_type`. Raises UsageError when no
    key is given or one is not P-256.
    """
    if not public_keys:
        raise UsageError("no public key to verify with", remedy="give the producer's public key")
    envelope = document if isinstance(document, Envelope) else read(document, name=name)
    signed = pae(envelope.payload, envelope.payload_type)
    for key in public_keys:
        if _signed_by(key, envelope.signature, signed):
            require_type(envelope.payload_type, payload_type, name=f"{name}: payloadType")
            if envelope.keyid not in {"", fingerprint(key)}:
                message = f"{name}: keyid names another key than the one that signed"
                raise ArtefactError(MALFORMED, message, expected=fingerprint(key), found=shown(envelope.keyid))
            return Verified(envelope.payload, fingerprint(key))
    raise ArtefactError(
        BAD_SIGNATURE,
        f"{name}: the signature does not verify",
        expected="a signature by " + " or ".join(fingerprint(key) for key in public_keys),
        found="another key's signature, or altered content",
        remedy="obtain the artefact and the producer's public key again, the key by another way",
    )


def _signed_by(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    require_p256(key.curve, name="the public key")
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def require_fields(
    value: object, names: tuple[str, ...], *, optional: tuple[str, ...] = (), name: str
) -> dict[str, object]:
    """Return `value` when it is an object with the fields `names`, some of `optional` and no other; else MV102."""
    if not isinstance(value, dict) or not set(names) <= value.keys() <= {*names, *optional}:
        found = shown(sorted(value)) if isinstance(value, dict) else shown(value)
        raise ArtefactError(MALFORMED, f"{name}: fields", expected=f"exactly {', '.join(names)}", found=found)
    return value


def require_string(value: object, *, name: str) -> str:
    """Return `value` when it is a string; ArtefactError MV102 otherwise."""
    if not isinstance(value, str):
        raise ArtefactError(MALFORMED, f"{name}: type", expected="a string", found=shown(value))
    return value


def require_type(found: object, expected: str, *, name: str) -> None:
    """Raise ArtefactError MV104 unless `found` is the type `expected`."""
    if found != expected:
        raise ArtefactError(WRONG_TYPE, f"{name}: wrong type", expected=expected, found=shown(found))


def decoded_base64(value: object, *, name: str) -> bytes:
    """Return the bytes of base64 in its one canonical form; ArtefactError MV102 for anything else."""
    text = require_string(value, name=name)
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArtefactError(MALFORMED, f"{name}: not base64", expected="standard base64", found=str(error)) from error
    # Re-encoding catches what the decoder lets pass: stray bits before the padding, data after it.
    if base64.b64encode(decoded).decode() != text:
        raise ArtefactError(MALFORMED, f"{name}: not canonical base64", expected="standard base64", found=shown(text))
    return decoded
