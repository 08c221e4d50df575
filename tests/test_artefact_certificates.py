"""Trust by certificate: what a chain must be, and each way in which it is not."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from authority import DAY, MAIL, NOW, URI, Issuer, der, new_key, pem
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from verify.artefact.certificates import CertificateTrust, alternative_name, load_chain, load_roots, signing_request
from verify.errors import ArtefactError, UsageError

ROOT = Issuer()
KEY = new_key()


def trust(identity: str = MAIL, *roots: Issuer) -> CertificateTrust:
    return CertificateTrust(tuple(root.certificate for root in roots or (ROOT,)), identity)


def refused(chain: tuple[bytes, ...], match: str, trusted: CertificateTrust | None = None, at: datetime = NOW) -> None:
    with pytest.raises(ArtefactError) as caught:
        (trusted or trust()).leaf(chain, at)
    assert caught.value.id == "MV103"
    assert match in f"{caught.value.message}: {caught.value.found}"
    assert caught.value.remedy


def test_a_leaf_under_the_root() -> None:
    leaf = trust().leaf(der(ROOT.issue(KEY.public_key())), NOW)
    assert leaf.key == KEY.public_key()
    assert (leaf.identity, leaf.not_before, leaf.not_after) == (MAIL, NOW - DAY, NOW + DAY)


def test_a_leaf_under_an_intermediate() -> None:
    middle = Issuer("middle", ROOT)
    leaf = middle.issue(KEY.public_key())
    assert trust().leaf(der(leaf, middle.certificate), NOW).key == KEY.public_key()
    refused(der(leaf), "not trusted")
    refused(der(leaf, Issuer("middle").certificate), "not trusted")


@pytest.mark.parametrize(
    ("identity", "general"),
    [
        (MAIL, x509.RFC822Name(MAIL)),
        (URI, x509.UniformResourceIdentifier(URI)),
        ("example.com", x509.DNSName("example.com")),
    ],
)
def test_the_three_kinds_of_identity(identity: str, general: x509.GeneralName) -> None:
    assert trust(identity).leaf(der(ROOT.issue(KEY.public_key(), names=[general])), NOW).identity == identity


@pytest.mark.parametrize(
    "identity", ["other@example.com", "RELEASE@example.com", "sub.example.com", "example.co", "", URI, "signer"]
)
def test_another_identity(identity: str) -> None:
    refused(der(ROOT.issue(KEY.public_key())), "another's", trust(identity))


def test_a_wildcard_is_no_identity_of_what_it_covers() -> None:
    chain = der(ROOT.issue(KEY.public_key(), names=[x509.DNSName("*.example.com")]))
    refused(chain, "another's", trust("build.example.com"))


def test_a_name_counts_only_as_what_it_is() -> None:
    chain = der(ROOT.issue(KEY.public_key(), names=[x509.UniformResourceIdentifier("example.com")]))
    refused(chain, "another's", trust("example.com"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"end": NOW - timedelta(seconds=1)}, "not trusted"),
        ({"start": NOW + timedelta(seconds=1)}, "not trusted"),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, "not trusted"),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "not trusted"),
        ({"usage": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}, "not trusted"),
        ({"usage": None}, "not trusted"),
        ({"digital_signature": False}, "not trusted"),
        ({"key_usage": False}, "not trusted"),
        ({"ca": True}, "a CA's"),
        ({"names": None}, "not trusted"),
        ({"names": [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]}, "another's"),
    ],
)
def test_a_leaf_that_is_not_one(changes: dict[str, Any], match: str) -> None:
    refused(der(ROOT.issue(KEY.public_key(), **changes)), match)


def test_another_root_of_the_same_name() -> None:
    refused(der(Issuer().issue(KEY.public_key())), "not trusted")


def test_a_root_sent_along_is_not_trusted() -> None:
    thief = Issuer()
    refused(der(thief.issue(KEY.public_key()), thief.certificate), "not trusted")


def test_a_self_signed_leaf_even_among_the_roots() -> None:
    alone = Issuer("signer", ca=False, usage=ExtendedKeyUsageOID.CODE_SIGNING, names=[x509.RFC822Name(MAIL)])
    refused(der(alone.certificate), "self-signed")
    refused(der(alone.certificate), "self-signed", trust(MAIL, alone))


def test_a_root_or_intermediate_is_no_signer() -> None:
    middle = Issuer("middle", ROOT, names=[x509.RFC822Name(MAIL)], usage=ExtendedKeyUsageOID.CODE_SIGNING)
    refused(der(middle.certificate), "a CA's")
    refused(der(middle.certificate), "root", trust(MAIL, middle))
    refused(der(ROOT.certificate), "root")


def test_a_leaf_cannot_issue() -> None:
    leaf = Issuer("leaf", ROOT, ca=False)
    refused(der(leaf.issue(KEY.public_key()), leaf.certificate), "not trusted")


def test_an_intermediate_for_other_uses_or_expired_or_too_deep() -> None:
    for changes in ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, {"end": NOW - timedelta(hours=1)}):
        middle = Issuer("middle", ROOT, **changes)
        refused(der(middle.issue(KEY.public_key()), middle.certificate), "not trusted")
    shallow = Issuer("shallow", ROOT, length=0)
    below = Issuer("below", shallow)
    refused(der(below.issue(KEY.public_key()), below.certificate, shallow.certificate), "not trusted")


def test_an_expired_root() -> None:
    old = Issuer("old", end=NOW - timedelta(hours=1))
    refused(der(old.issue(KEY.public_key())), "not trusted", trust(MAIL, old))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_another_kind_of_key(key: Any) -> None:
    refused(der(ROOT.issue(key.public_key())), "the signer's key")


@pytest.mark.parametrize("chain", [(), (b"",), (b"0\x00",), (b"\x30\x82" + b"a" * 40,)])
def test_what_is_no_certificate(chain: tuple[bytes, ...]) -> None:
    refused(chain, "")
    leaf = der(ROOT.issue(KEY.public_key()))
    refused((leaf[0] + b"\0",), "cannot be read")
    refused(leaf * 6, "number")


def test_any_flipped_byte_of_the_leaf_is_refused() -> None:
    (good,) = der(ROOT.issue(KEY.public_key()))
    for place in range(len(good)):
        spoiled = bytearray(good)
        spoiled[place] ^= 1
        refused((bytes(spoiled),), "")


@pytest.mark.parametrize(
    ("created", "holds"),
    [
        ("2026-06-01T00:00:00+00:00", True),
        ("2026-06-01T00:00:00Z", True),
        ("2026-05-30T23:59:59Z", False),
        ("2026-06-02T00:00:01Z", False),
        ("2026-06-01T00:00:00", False),
        ("yesterday", False),
        ("", False),
    ],
)
def test_the_time_of_signing_lies_in_the_certificates(created: str, holds: bool) -> None:
    leaf = trust().leaf(der(ROOT.issue(KEY.public_key())), NOW)
    if holds:
        leaf.require_made_within(created)
        return
    with pytest.raises(ArtefactError, match="outside") as caught:
        leaf.require_made_within(created)
    assert caught.value.id == "MV103"


def test_a_chain_to_sign_with(tmp_path: Path) -> None:
    path, middle = tmp_path / "chain.pem", Issuer("middle", ROOT)
    leaf = middle.issue(KEY.public_key())
    path.write_bytes(pem(leaf, middle.certificate))
    assert load_chain(path, KEY.public_key(), NOW) == der(leaf, middle.certificate)
    for content, match in (
        (pem(middle.certificate, leaf), "not for this private key"),
        (pem(leaf, middle.certificate, ROOT.certificate), "self-signed"),
        (pem(middle.issue(KEY.public_key(), usage=None)), "not a code-signing certificate"),
        (pem(middle.issue(KEY.public_key(), names=None)), "not a code-signing certificate"),
        (pem(middle.issue(KEY.public_key(), end=NOW - timedelta(hours=1))), "not valid now"),
        (b"", "no list of certificates"),
        (b"-----BEGIN PRIVATE KEY-----\n" + pem(leaf), "no list of certificates"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=match):
            load_chain(path, KEY.public_key(), NOW)


def test_roots_are_read_from_every_file(tmp_path: Path) -> None:
    other = Issuer("other")
    (tmp_path / "a.pem").write_bytes(pem(ROOT.certificate))
    (tmp_path / "b.pem").write_bytes(pem(other.certificate, ROOT.certificate))
    found = load_roots([tmp_path / "a.pem", tmp_path / "b.pem"])
    assert found == (ROOT.certificate, other.certificate, ROOT.certificate)
    with pytest.raises(UsageError, match="cannot read"):
        load_roots([tmp_path / "none.pem"])


@pytest.mark.parametrize("identity", [MAIL, URI, "example.com"])
def test_a_request_asks_for_what_is_trusted_later(identity: str) -> None:
    request = x509.load_pem_x509_csr(signing_request(KEY, alternative_name(identity)))
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    chain = der(ROOT.issue(request.public_key(), names=list(names)))
    assert trust(identity).leaf(chain, NOW).key == KEY.public_key()


@pytest.mark.parametrize("identity", ["", "é.example", "a\x1bb", "a@é"])
def test_an_identity_that_no_certificate_can_name(identity: str) -> None:
    with pytest.raises(UsageError, match="cannot be certified"):
        alternative_name(identity)
