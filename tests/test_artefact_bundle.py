import base64
import hashlib
import json

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact import bundle, keys
from verify.contract.manifest import PAYLOAD_TYPE, Statement
from verify.errors import ArtefactError, UsageError

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
DIGEST = "ab" * 32


def statement(subjects: tuple[str, ...] = ("ledger.safetensors", "model/config.json")) -> Statement:
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "urn:mansu:unlearning/v1",
        "subject": [{"name": name, "digest": {"sha256": DIGEST}} for name in subjects],
        "predicate": {
            "engine": {"name": "mansu", "version": "0.1.0"},
            "created": "2026-01-01T00:00:00Z",
            "request": {"forget_sha256": DIGEST, "retain_sha256": DIGEST, "forget_lines": 3, "retain_lines": 4},
            "base": {"files": [{"name": "config.json", "sha256": DIGEST}]},
            "method": {"name": "mansu", "settings": {"seed": "18446744073709551615"}},
            "mask": {
                "tensors": [{"tensor": "w", "masked": 1, "total": 4}],
                "masked": 1,
                "parameters": 4,
                "ledger_sha256": DIGEST,
            },
            "profiles": [{}],
            "circuit": {"edges": 5, "edges_total": 50, "faithfulness": 1.0, "target": 0.9, "reached": True},
            "claims": [
                {"axis": "erasure", "row": "é", "precision": "nf4",
                 "estimate": {"value": -0.0, "low": 1e-7, "high": 1e21, "n": 3}},
            ],
        },
    }  # fmt: skip
    return Statement.model_validate_json(json.dumps(value))


def test_round_trip() -> None:
    original = statement()
    data = bundle.seal(original, KEY)
    opened = bundle.unseal(data, [OTHER.public_key(), KEY.public_key()])
    assert opened.statement == original
    assert opened.key_fingerprint == keys.fingerprint(KEY.public_key())
    payload = base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
    assert opened.payload_sha256 == hashlib.sha256(payload).hexdigest()
    assert payload == rfc8785.dumps(original.model_dump(mode="json", by_alias=True))
    assert bundle.read_unverified(data) == original


def test_layout_is_that_of_a_sigstore_bundle() -> None:
    value = json.loads(bundle.seal(statement(), KEY))
    assert value["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = keys.fingerprint(KEY.public_key())
    assert value["verificationMaterial"] == {"publicKey": {"hint": hint}, "tlogEntries": []}
    assert value["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    (signature,) = value["dsseEnvelope"]["signatures"]
    assert (set(signature), signature["keyid"]) == ({"sig", "keyid"}, hint)


def test_another_key_is_named() -> None:
    with pytest.raises(ArtefactError, match="do not trust") as caught:
        bundle.unseal(bundle.seal(statement(), KEY), [OTHER.public_key()])
    assert caught.value.id == "MV103"
    assert keys.fingerprint(KEY.public_key())[:60] in caught.value.found
    assert keys.fingerprint(OTHER.public_key()) in caught.value.expected


def test_no_key_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no public key"):
        bundle.unseal(bundle.seal(statement(), KEY), [])


@pytest.mark.parametrize(
    "subjects",
    [("a", "b", "a"), ("/a",), ("../a",), ("a/../b",), ("a\\b",), ("a\x1b",), ("",), ("a\nb",), ("./a",)],
)
def test_unsafe_subjects_are_not_sealed(subjects: tuple[str, ...]) -> None:
    with pytest.raises(ArtefactError) as caught:
        bundle.seal(statement(subjects), KEY)
    assert caught.value.id == "MV102"


def test_what_rfc_8785_cannot_hold_is_not_sealed() -> None:
    original = statement()
    predicate = original.predicate.model_copy(update={"sequence": 2**60})
    with pytest.raises(ArtefactError, match="no RFC 8785 form") as caught:
        bundle.seal(original.model_copy(update={"predicate": predicate}), KEY)
    assert caught.value.id == "MV102"


def test_other_payloads_have_the_same_wrapping() -> None:
    data = bundle.pack(b"anything", "application/other", KEY)
    assert bundle.unpack(data, [KEY.public_key()], payload_type="application/other").payload == b"anything"
    with pytest.raises(ArtefactError) as caught:
        bundle.unpack(data, [KEY.public_key()], payload_type=PAYLOAD_TYPE)
    assert caught.value.id == "MV104"
