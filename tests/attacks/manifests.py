"""Generators of hostile manifests: a good one, and every way of section 6 to spoil it, signed or not."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact import bundle, envelope, keys
from verify.contract.manifest import PAYLOAD_TYPE

Edit = Callable[[Any], None]
"""Spoils a bundle, given as the object that its JSON holds, in place."""

KEY = ec.generate_private_key(ec.SECP256R1())
THIEF = ec.generate_private_key(ec.SECP256R1())
DIGEST = "0" * 64
STATEMENT: dict[str, Any] = {
    "_type": "https://in-toto.io/Statement/v1",
    "predicateType": "urn:mansu:unlearning/v1",
    "subject": [{"name": "ledger.safetensors", "digest": {"sha256": DIGEST}}],
    "predicate": {
        "engine": {"name": "mansu", "version": "0"},
        "created": "2026-01-01T00:00:00Z",
        "sequence": 1,
        "previous_sha256": None,
        "request": {"forget_sha256": DIGEST, "retain_sha256": DIGEST, "forget_lines": 1, "retain_lines": 1},
        "base": {"files": []},
        "method": {"name": "m", "settings": {}},
        "mask": {
            "tensors": [{"tensor": "w", "masked": 1, "total": 4}],
            "masked": 1,
            "parameters": 4,
            "ledger_sha256": DIGEST,
        },
        "profiles": [{"quant_type": "nf4", "block_size": 64, "double_quant": False}],
        "circuit": {"edges": 1, "edges_total": 2, "faithfulness": 1, "target": 0.5, "reached": True},
        "claims": [],
    },
}


def signed(payload: bytes, key: ec.EllipticCurvePrivateKey = KEY, payload_type: str = PAYLOAD_TYPE) -> bytes:
    return bundle.pack(payload, payload_type, key)


def good() -> bytes:
    return signed(rfc8785.dumps(STATEMENT))


def with_statement(*path: str | int, value: object) -> bytes:
    """A manifest, duly signed, with one value of the statement replaced or added."""
    changed = copy.deepcopy(STATEMENT)
    target = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return signed(rfc8785.dumps(changed))


def with_payload(replace: bytes, by: bytes) -> bytes:
    """A manifest, duly signed, whose payload text was edited."""
    payload = rfc8785.dumps(STATEMENT)
    assert replace in payload
    return signed(payload.replace(replace, by, 1))


def with_bundle(edit: Edit) -> bytes:
    """A good manifest whose bundle object was edited after signing."""
    value = json.loads(good())
    edit(value)
    return json.dumps(value).encode()


def with_text(replace: bytes, by: bytes) -> bytes:
    """A good manifest whose bundle text was edited after signing."""
    data = good()
    assert replace in data
    return data.replace(replace, by, 1)


def stray_bits(text: str) -> str:
    """The same bytes in base64 whose unused bits are not zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    changed = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + "=" * (len(text) - len(body))
    assert base64.b64decode(changed) == base64.b64decode(text)
    return changed


def padded_payload() -> bytes:
    """A good manifest, its payload's base64 ending in padding, spoiled by stray bits alone."""
    changed = copy.deepcopy(STATEMENT)
    while len(rfc8785.dumps(changed)) % 3 != 1:
        changed["predicate"]["created"] += "0"
    value = json.loads(signed(rfc8785.dumps(changed)))
    value["dsseEnvelope"]["payload"] = stray_bits(value["dsseEnvelope"]["payload"])
    return json.dumps(value).encode()


def _set(*path: str | int, value: object) -> Edit:
    def edit(target: Any) -> None:
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return edit


def _map(*path: str | int, change: Callable[[Any], Any]) -> Edit:
    def edit(target: Any) -> None:
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = change(target[path[-1]])

    return edit


def _resigned_by_thief(hint: str) -> bytes:
    value = json.loads(signed(rfc8785.dumps(STATEMENT), key=THIEF))
    value["verificationMaterial"]["publicKey"]["hint"] = hint
    return json.dumps(value).encode()


def _thief_der() -> str:
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(THIEF.public_key().public_bytes(*der)).decode()


ENV, SIG = "dsseEnvelope", ("dsseEnvelope", "signatures", 0, "sig")
MATERIAL = "verificationMaterial"
THIEF_PRINT, KEY_PRINT = keys.fingerprint(THIEF.public_key()), keys.fingerprint(KEY.public_key())
SECOND = envelope.sign(rfc8785.dumps(STATEMENT), PAYLOAD_TYPE, THIEF)["signatures"]

ATTACKS: dict[str, tuple[bytes, str, str]] = {
    # malformed: MV102
    "not JSON": (b"\x00", "MV102", "not strict JSON"),
    "empty": (b"", "MV102", "not strict JSON"),
    "a list": (b"[]", "MV102", "fields"),
    "deep nesting": (b"[" * 100_000, "MV102", "nested deeper"),
    "too large": (b" " * (envelope.MAX_BYTES + 1), "MV102", "bytes, more than"),
    "duplicate key in the bundle": (with_text(b'{"dsse', b'{"mediaType":"x","dsse'), "MV102", "given twice"),
    "duplicate key by escape": (with_text(b'"payload":', b'"payloa\\u0064":"","payload":'), "MV102", "given twice"),
    "NaN": (with_text(b'"hint":"', b'"x":NaN,"hint":"'), "MV102", "NaN is not JSON"),
    "other media type": (with_bundle(_set("mediaType", value="application/json")), "MV102", "mediaType"),
    "unknown field in the bundle": (with_bundle(_set("extra", value=1)), "MV102", "fields"),
    "unknown field in the envelope": (with_bundle(_set(ENV, "extra", value=1)), "MV102", "dsseEnvelope: fields"),
    "unknown field in the signature": (
        with_bundle(_set(ENV, "signatures", 0, "cert", value="x")), "MV102", "signature: fields"),
    "keyid of another key": (
        with_bundle(_set(ENV, "signatures", 0, "keyid", value=THIEF_PRINT)), "MV102", "keyid names another key"),
    "keyid that is no string": (
        with_bundle(_set(ENV, "signatures", 0, "keyid", value=1)), "MV102", "keyid: type"),
    "second signature": (
        with_bundle(_map(ENV, "signatures", change=lambda old: old + SECOND)), "MV102", "number of signatures"),
    "second signature first": (
        with_bundle(_map(ENV, "signatures", change=lambda old: SECOND + old)), "MV102", "number of signatures"),
    "the signature twice": (
        with_bundle(_map(ENV, "signatures", change=lambda old: old * 2)), "MV102", "number of signatures"),
    "no signature": (with_bundle(_set(ENV, "signatures", value=[])), "MV102", "number of signatures"),
    "signatures are an object": (with_bundle(_set(ENV, "signatures", value={})), "MV102", "number of signatures"),
    "signature is null": (with_bundle(_set(*SIG, value=None)), "MV102", "sig: type"),
    "base64 with line break": (
        with_bundle(_map(ENV, "payload", change=lambda old: old + "\n")), "MV102", "payload: not base64"),
    "base64 with space": (
        with_bundle(_map(*SIG, change=lambda old: old[:4] + " " + old[4:])), "MV102", "sig: not base64"),
    "base64 of URLs": (with_bundle(_set(*SIG, value="-_-_")), "MV102", "sig: not base64"),
    "base64 without padding": (with_bundle(_set(*SIG, value="QQ")), "MV102", "sig: not base64"),
    "base64 with stray bits": (padded_payload(), "MV102", "payload: not canonical base64"),
    "base64 not ASCII": (with_bundle(_set(*SIG, value="é===")), "MV102", "sig: not base64"),
    "key in the bundle": (
        with_bundle(_set(MATERIAL, "publicKey", value={"hint": THIEF_PRINT, "rawBytes": _thief_der()})),
        "MV102", "publicKey: fields"),
    "certificate in the bundle": (
        with_bundle(_set(MATERIAL, value={"certificate": {"rawBytes": ""}})), "MV102", "it carries a certificate"),
    "key and certificate in the bundle": (
        with_bundle(_set(MATERIAL, "certificate", value={"rawBytes": ""})), "MV102", "verificationMaterial: fields"),
    "transparency log entry": (with_bundle(_set(MATERIAL, "tlogEntries", value=[{}])), "MV102", "tlogEntries"),
    "payload not canonical": (with_payload(b":", b": "), "MV102", "payload is not in canonical form"),
    "payload number not canonical": (
        with_payload(b'"faithfulness":1,', b'"faithfulness":1.0,'), "MV102", "payload is not in canonical form"),
    "payload keys out of order": (
        signed(rfc8785.dumps(STATEMENT)[:-1].replace(b'{"_type":"https://in-toto.io/Statement/v1",', b"{", 1)
               + b',"_type":"https://in-toto.io/Statement/v1"}'), "MV102", "payload is not in canonical form"),
    "payload with duplicate key": (with_payload(b'"sequence":1', b'"sequence":1,"sequence":1'), "MV102", "given twice"),
    "payload with 1e999": (with_payload(b'"target":0.5', b'"target":1e999'), "MV102", "not finite"),
    "payload with NaN": (with_payload(b'"target":0.5', b'"target":NaN'), "MV102", "NaN is not JSON"),
    "payload with a 64-bit integer": (
        with_payload(b'"edges":1,', b'"edges":9007199254740993,'), "MV102", "a value has no RFC 8785 form"),
    "payload is a list": (signed(b"[]"), "MV102", "payload"),
    "unknown field in the predicate": (with_statement("predicate", "note", value="x"), "MV102", "Extra inputs"),
    "empty mask": (with_statement("predicate", "mask", "masked", value=0), "MV102", "greater than or equal"),
    "no profiles": (with_statement("predicate", "profiles", value=[]), "MV102", "at least 1"),
    "number as text": (with_statement("predicate", "sequence", value="1"), "MV102", "valid integer"),
    "no subject": (with_statement("subject", value=[]), "MV102", "at least 1"),
    "subject twice": (with_statement("subject", value=STATEMENT["subject"] * 2), "MV102", "a subject is named twice"),
    **{
        f"subject {name!a}": (with_statement("subject", 0, "name", value=name), "MV102", "unsafe file name")
        for name in ("/etc/passwd", "../x", "a/../../x", "a\\b", "a\x1b[2J", "a\nb", "", "a//b", "C:/x", "\u202ex")
    },
    "digest in capitals": (with_statement("subject", 0, "digest", "sha256", value="A" * 64), "MV102", "match pattern"),
    "digest with line break": (
        with_statement("subject", 0, "digest", "sha256", value="a" * 64 + "\n"), "MV102", "match pattern"),
    # not signed by the key given: MV103
    "another key": (signed(rfc8785.dumps(STATEMENT), key=THIEF), "MV103", "signed by a key you do not trust"),
    "another key under the trusted hint": (_resigned_by_thief(KEY_PRINT), "MV103", "the signature does not verify"),
    "hint of another key": (
        with_bundle(_set(MATERIAL, "publicKey", "hint", value=THIEF_PRINT)),
        "MV103", "signed by a key you do not trust"),
    "signature of another payload": (
        with_bundle(_set(*SIG, value=envelope.sign(b"x", PAYLOAD_TYPE, KEY)["signatures"][0]["sig"])),
        "MV103", "the signature does not verify"),
    "empty signature": (with_bundle(_set(*SIG, value="")), "MV103", "the signature does not verify"),
    "zero signature": (with_bundle(_set(*SIG, value="MAYCAQACAQA=")), "MV103", "the signature does not verify"),
    "payload type changed": (
        with_bundle(_set(ENV, "payloadType", value="application/json")), "MV103", "the signature does not verify"),
    # duly signed, but something else: MV104
    "another payload type": (
        signed(rfc8785.dumps(STATEMENT), payload_type="application/json"), "MV104", "payloadType: wrong type"),
    "another predicate type": (
        with_statement("predicateType", value="urn:other:predicate/v1"), "MV104", "predicateType: wrong type"),
    "a later predicate": (
        with_statement("predicateType", value="urn:mansu:unlearning/v2"), "MV104", "predicateType: wrong type"),
    "another statement type": (
        with_statement("_type", value="https://in-toto.io/Statement/v0.1"), "MV104", "_type: wrong type"),
}  # fmt: skip
