import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.artefact import envelope, keys
from verify.errors import ArtefactError, UsageError

KEY = ec.generate_private_key(ec.SECP256R1())
TYPE = "application/example"


def test_pae_is_that_of_the_dsse_specification() -> None:
    signed = b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    assert envelope.pae(b"hello world", "application/vnd.in-toto+json") == signed


def test_pae_counts_bytes_not_characters() -> None:
    assert envelope.pae(b"", "é") == b"DSSEv1 2 \xc3\xa9 0 "


@settings(max_examples=30, deadline=None)
@given(payload=st.binary(max_size=200))
def test_round_trip(payload: bytes) -> None:
    document = envelope.sign(payload, TYPE, KEY)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    for form in (document, json.dumps(document).encode()):
        verified = envelope.verify(form, [other, KEY.public_key()], payload_type=TYPE)
        assert verified == envelope.Verified(payload, keys.fingerprint(KEY.public_key()))


def test_no_key_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no public key"):
        envelope.verify(envelope.sign(b"x", TYPE, KEY), [], payload_type=TYPE)


def test_only_p256_signs_and_verifies() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(UsageError, match="curve"):
        envelope.sign(b"x", TYPE, p384)
    with pytest.raises(UsageError, match="curve"):
        envelope.verify(envelope.sign(b"x", TYPE, KEY), [p384.public_key()], payload_type=TYPE)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(value=JSON, escaped=st.booleans())
def test_strict_json_agrees_with_json_on_what_it_accepts(value: object, escaped: bool) -> None:
    data = json.dumps(value, ensure_ascii=escaped).encode()
    assert envelope.strict_json(data, check_id="MV102", name="x") == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "given twice"),
        (b'{"a":1,"\\u0061":2}', "given twice"),
        (b'[{"x":{"b":1,"b":1}}]', "given twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "not finite"),
        (b"[-0]", "the number -0"),
        (b"[" + b"1" * 21 + b"]", "21 digits"),
        (b"[" * 33 + b"]" * 33, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b'["\\ud800"]', "surrogates"),
        (b'{"\\udc00":1}', "surrogates"),
        (b'["\xff"]', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{}{}", "Extra data"),
        (b"{'a':1}", "property name"),
        (b"[1,]", ""),
        (b"", "Expecting value"),
        (b'["\x01"]', "control character"),
        (b"// comment\n{}", "Expecting value"),
    ],
)
def test_strict_json_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        envelope.strict_json(data, check_id="MV999", name="x")
    assert caught.value.id == "MV999"
    assert reason in caught.value.found


def test_strict_json_depth_limit_is_exact_and_ignores_strings() -> None:
    assert envelope.strict_json(b"[" * 32 + b"]" * 32, check_id="MV102", name="x")
    assert envelope.strict_json(json.dumps(['[{"\\' * 40]).encode(), check_id="MV102", name="x") == ['[{"\\' * 40]


def test_strict_json_size_limit() -> None:
    with pytest.raises(ArtefactError, match="strict JSON"):
        envelope.strict_json(b"[1,2]", check_id="MV102", name="x", max_bytes=4)


def test_unterminated_string_of_escapes_is_refused_in_linear_time() -> None:
    with pytest.raises(ArtefactError):
        envelope.strict_json(b'["' + b'\\"' * 1_000_000, check_id="MV102", name="x")


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "::error::x\r", "\u202egnp", "\u2028"])
def test_shown_cannot_speak_to_a_terminal(text: str) -> None:
    assert all(32 <= ord(character) < 127 for character in envelope.shown(text))


def test_shown_is_short() -> None:
    assert len(envelope.shown("x" * 1000)) == 80


def test_signature_is_over_the_pae() -> None:
    document = envelope.sign(b"payload", TYPE, KEY)
    signature = base64.b64decode(document["signatures"][0]["sig"])
    assert envelope._signed_by(KEY.public_key(), signature, b"DSSEv1 19 application/example 7 payload")
    assert not envelope._signed_by(KEY.public_key(), signature, b"payload")
