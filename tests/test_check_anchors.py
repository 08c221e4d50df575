"""What a verdict rests on: certificates under roots (MV103), model.sig (MV112), the vendor's signature (MV107)."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import authority as a
import certificates as c
import pytest
import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from verify.artefact import load_private, load_public, read_unverified, seal, unseal
from verify.artefact.anchors import AnchorFiles
from verify.artefact.bundle import pack
from verify.artefact.oms import read, sign
from verify.artefact.signing import Signer, Trusted
from verify.check import check
from verify.cli import main
from verify.contract.manifest import PAYLOAD_TYPE
from verify.contract.result import Result
from verify.errors import ArtefactError, UsageError

NOW = datetime.now(UTC)
START, END = datetime(2025, 12, 1, tzinfo=UTC), NOW + timedelta(days=1)
"""In this time lie the moment of the test and that in which the tiny certificates were made, by their own word."""
ROOT = a.Issuer(start=START, end=END)


def ask(made: c.Certificate, anchors: AnchorFiles | None = None) -> Result:
    given = anchors or AnchorFiles(keys=(made.keys.public,))
    return check(made.model, made.manifest, anchors=given, level="static")


def failures(result: Result) -> set[str]:
    failed = {entry.id for entry in result.checks if entry.status == "fail"}
    assert (result.verdict == "FAIL") == bool(failed)
    return failed


def found(result: Result, check_id: str) -> str:
    return next(entry.found for entry in result.checks if entry.id == check_id)


# certificates


def issue(made: c.Certificate, issuer: a.Issuer = ROOT, **changes: Any) -> x509.Certificate:
    return issuer.issue(**{"key": load_public(made.keys.public), "start": START, "end": END} | changes)


def sign_with(made: c.Certificate, *chain: x509.Certificate) -> None:
    statement = read_unverified(made.manifest.read_bytes(), certificates=True)
    made.manifest.write_bytes(seal(statement, load_private(made.keys.private), a.der(*chain)))


@pytest.fixture
def rooted(tmp_path: Path) -> AnchorFiles:
    (tmp_path / "root.pem").write_bytes(a.pem(ROOT.certificate))
    return AnchorFiles(cert_roots=(tmp_path / "root.pem",), cert_identity=a.MAIL)


def test_a_manifest_under_a_root(certificate: c.Certificate, rooted: AnchorFiles) -> None:
    sign_with(certificate, issue(certificate))
    result = ask(certificate, rooted)
    assert result.verdict == "PASS", result.headline
    assert (result.trust.identity, result.trust.signature) == (a.MAIL, "valid")
    assert f"certified for '{a.MAIL}'" in found(result, "MV103")
    assert f"--cert-root {rooted.cert_roots[0]} --cert-identity {a.MAIL}" in result.repeat


def test_a_manifest_under_an_intermediate(certificate: c.Certificate, rooted: AnchorFiles) -> None:
    middle = a.Issuer("middle", ROOT, start=START, end=END)
    sign_with(certificate, issue(certificate, middle), middle.certificate)
    assert ask(certificate, rooted).verdict == "PASS"
    sign_with(certificate, issue(certificate, middle))
    assert failures(ask(certificate, rooted)) == {"MV103"}


def test_a_key_beside_the_root_is_trusted_too(tiny_certificate: c.Certificate, rooted: AnchorFiles) -> None:
    assert failures(ask(tiny_certificate, rooted)) == {"MV103"}
    both = replace(rooted, keys=(tiny_certificate.keys.public,))
    result = ask(tiny_certificate, both)
    assert (result.verdict, result.trust.identity) == ("PASS", None)


def test_without_a_root_a_certificate_is_refused(certificate: c.Certificate) -> None:
    sign_with(certificate, issue(certificate))
    for keys in ((), (certificate.keys.public,)):
        result = ask(certificate, AnchorFiles(keys=keys))
        assert failures(result) == {"MV102"}
        assert "certificate" in found(result, "MV102")


@pytest.mark.parametrize(
    "changes",
    [
        {"names": [x509.RFC822Name("other@example.com")]},
        {"usage": ExtendedKeyUsageOID.SERVER_AUTH},
        {"issuer": a.Issuer(start=START, end=END)},
        {"ca": True},
        {"key": ec.generate_private_key(ec.SECP384R1()).public_key()},
        {"key": rsa.generate_private_key(65537, 2048).public_key()},
        {"key": a.new_key().public_key()},
        {"end": NOW - timedelta(seconds=1)},
        {"start": NOW + timedelta(hours=1)},
        {"start": datetime(2026, 1, 2, tzinfo=UTC)},
    ],
    ids=["identity", "usage", "root", "CA", "P-384", "RSA", "another key", "expired", "not yet", "signed before"],
)
def test_a_certificate_that_is_not_trusted(
    certificate: c.Certificate, rooted: AnchorFiles, changes: dict[str, Any]
) -> None:
    sign_with(certificate, issue(certificate, **changes))
    result = ask(certificate, rooted)
    assert failures(result) == {"MV103"}
    assert result.trust.signature == "invalid"
    assert result.trust.identity is None


def test_a_self_signed_leaf(certificate: c.Certificate, rooted: AnchorFiles) -> None:
    alone = a.Issuer("alone", ca=False, usage=ExtendedKeyUsageOID.CODE_SIGNING, names=a.NAMES, start=START, end=END)
    statement = read_unverified(certificate.manifest.read_bytes())
    certificate.manifest.write_bytes(seal(statement, alone.key, a.der(alone.certificate)))
    assert failures(ask(certificate, rooted)) == {"MV103"}
    rooted.cert_roots[0].write_bytes(a.pem(ROOT.certificate, alone.certificate))
    assert failures(ask(certificate, rooted)) == {"MV103"}


def test_a_flipped_byte_anywhere_in_a_certified_manifest(certificate: c.Certificate, rooted: AnchorFiles) -> None:
    sign_with(certificate, issue(certificate))
    anchors, good = rooted.load(), certificate.manifest.read_bytes()
    assert unseal(good, (), anchors.trusted.certificates).identity == a.MAIL
    start = good.index(b"verificationMaterial")  # the rest is covered by the signature, and tested elsewhere
    for place in range(start, len(good), 5):
        spoiled = bytearray(good)
        spoiled[place] ^= 1
        with pytest.raises(ArtefactError):
            unseal(bytes(spoiled), (), anchors.trusted.certificates)


def test_half_a_pair_of_anchors_is_a_usage_error(tiny_certificate: c.Certificate, rooted: AnchorFiles) -> None:
    key = tiny_certificate.keys.public
    for given in (
        replace(rooted, cert_identity=None),
        replace(rooted, cert_identity=""),
        replace(rooted, cert_roots=()),
        AnchorFiles(base_signature=key),
        AnchorFiles(base_key=key),
        replace(rooted, cert_roots=(key,)),
        AnchorFiles(base_signature=key.with_name("none"), base_key=key),
    ):
        with pytest.raises(UsageError):
            ask(tiny_certificate, given)
    with pytest.raises(UsageError, match="two digests"):
        check(
            tiny_certificate.model,
            tiny_certificate.manifest,
            anchors=AnchorFiles(base_digests={"": c.ZERO}),
            base_digests={"": "1" * 64},
        )


def test_as_a_command(
    certificate: c.Certificate,
    rooted: AnchorFiles,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key from the environment is not trusted beside a root that the command names."""
    monkeypatch.setenv("MANSU_KEY", str(certificate.keys.public))
    words = [str(certificate.model), "--manifest", str(certificate.manifest), "--checks", "static"]
    root = ["--cert-root", str(rooted.cert_roots[0]), "--cert-identity"]
    assert exit_code([*words, *root, a.MAIL]) == 1
    assert "PASS" not in capsys.readouterr().out
    sign_with(certificate, issue(certificate))
    assert exit_code([*words, *root, a.MAIL]) == 0
    assert f"certified for {a.MAIL}" in " ".join(capsys.readouterr().out.split())
    assert exit_code([*words, *root, "other@example.com"]) == 1
    assert exit_code([*words, *root[:2]]) == 2
    assert exit_code(["--manifest", str(certificate.manifest), "--show"]) == 0


def exit_code(words: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return int(caught.value.code or 0)


# model.sig


def signature_of(made: c.Certificate, **change: str) -> bytes:
    digests = c.digests_of(made.out / "model") | change
    return sign("model", digests, Signer(load_private(made.keys.private)))


def resigned(data: bytes, key: ec.EllipticCurvePrivateKey, change: Callable[[Any], None]) -> bytes:
    """Return an OMS bundle with another statement, duly signed."""
    bundle = json.loads(data)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    return pack(rfc8785.dumps(statement), PAYLOAD_TYPE, key, bundle["verificationMaterial"])


def rooted_anew(statement: Any) -> None:
    digests = [bytes.fromhex(entry["digest"]) for entry in statement["predicate"]["resources"]]
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()


def _rename_two(statement: Any) -> None:
    """Exchange two names: the root digest, over digests alone, stays what it was."""
    first, second, *_ = statement["predicate"]["resources"]
    first["name"], second["name"] = second["name"], first["name"]


def _twice(statement: Any) -> None:
    statement["predicate"]["resources"] *= 2
    rooted_anew(statement)


def _outside(statement: Any) -> None:
    statement["predicate"]["resources"][0]["name"] = "../config.json"


def _drop(statement: Any) -> None:
    del statement["predicate"]["resources"][0]
    rooted_anew(statement)


def _ignore(statement: Any) -> None:
    gone = statement["predicate"]["resources"].pop(0)
    statement["predicate"]["serialization"]["ignore_paths"].append(gone["name"])
    rooted_anew(statement)


def _digest(statement: Any) -> None:
    statement["predicate"]["resources"][0]["digest"] = c.ZERO
    rooted_anew(statement)


def _root(statement: Any) -> None:
    statement["subject"][0]["digest"]["sha256"] = c.ZERO


def _predicate_type(statement: Any) -> None:
    statement["predicateType"] = "https://model_signing/Digests/v0.1"


def _second_subject(statement: Any) -> None:
    statement["subject"] *= 2


def _shards(statement: Any) -> None:
    statement["predicate"]["serialization"] |= {"method": "shards", "shard_size": 1000}


def _blake(statement: Any) -> None:
    statement["predicate"]["serialization"]["hash_type"] = "blake3"


def _algorithm(statement: Any) -> None:
    statement["predicate"]["resources"][0]["algorithm"] = "blake2b"


def _nothing(statement: Any) -> None:
    statement["predicate"]["resources"] = []
    rooted_anew(statement)


STATEMENTS = [
    (_rename_two, "other content"),
    (_twice, "named twice"),
    (_outside, "unsafe file name"),
    (_drop, "not signed"),
    (_ignore, "not signed"),
    (_digest, "other content"),
    (_root, "root digest"),
    (_predicate_type, "not an OMS v1.0 statement"),
    (_second_subject, "not a valid OMS statement"),
    (_shards, "file by file"),
    (_blake, "file by file"),
    (_algorithm, "not a valid OMS statement"),
    (_nothing, "not a valid OMS statement"),
]


def test_a_model_signature_is_checked(certificate: c.Certificate) -> None:
    assert found(ask(certificate), "MV112") == "there is no model.sig"
    (certificate.out / "model.sig").write_bytes(signature_of(certificate))
    result = ask(certificate)
    assert result.verdict == "PASS", result.headline
    assert "signed by" in found(result, "MV112")
    without = ask(certificate, AnchorFiles())
    assert {entry.id for entry in without.checks if entry.status == "undecided"} == {"MV103", "MV112"}
    assert without.verdict == "UNDECIDED"


@pytest.mark.parametrize(("change", "reason"), STATEMENTS)
def test_a_model_signature_over_anything_else(
    certificate: c.Certificate, change: Callable[[Any], None], reason: str
) -> None:
    key = load_private(certificate.keys.private)
    (certificate.out / "model.sig").write_bytes(resigned(signature_of(certificate), key, change))
    result = ask(certificate)
    assert failures(result) == {"MV112"}
    assert reason in found(result, "MV112")


def test_a_model_signature_by_somebody_else_or_none(certificate: c.Certificate, tmp_path: Path) -> None:
    path, thief = certificate.out / "model.sig", c.make_keys(tmp_path / "thief")
    good = signature_of(certificate)
    stolen = json.loads(sign("model", c.digests_of(certificate.out / "model"), Signer(load_private(thief.private))))
    for data in (
        json.dumps(stolen).encode(),
        json.dumps({**stolen, "verificationMaterial": json.loads(good)["verificationMaterial"]}).encode(),
        certificate.manifest.read_bytes(),
        good[:-1],
        b"",
    ):
        path.write_bytes(data)
        assert failures(ask(certificate)) == {"MV112"}
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    assert failures(ask(certificate)) == {"MV101"}
    path.unlink()
    os.mkfifo(path)
    assert failures(ask(certificate)) == {"MV101"}


def test_a_model_signature_is_no_manifest(certificate: c.Certificate) -> None:
    certificate.manifest.write_bytes(signature_of(certificate))
    assert failures(ask(certificate)) == {"MV102"}  # its hint and its keyid name the key in two ways
    bundle = json.loads(signature_of(certificate))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    certificate.manifest.write_bytes(pack(payload, PAYLOAD_TYPE, load_private(certificate.keys.private)))
    assert failures(ask(certificate)) == {"MV104"}


def test_a_model_signature_under_a_root(certificate: c.Certificate, rooted: AnchorFiles) -> None:
    leaf = issue(certificate)
    sign_with(certificate, leaf)
    signer = Signer(load_private(certificate.keys.private), a.der(leaf))
    (certificate.out / "model.sig").write_bytes(sign("model", c.digests_of(certificate.out / "model"), signer))
    assert ask(certificate, rooted).verdict == "PASS"
    other = replace(signer, chain=a.der(issue(certificate, names=[x509.DNSName("example.com")])))
    (certificate.out / "model.sig").write_bytes(sign("model", c.digests_of(certificate.out / "model"), other))
    assert failures(ask(certificate, rooted)) == {"MV112"}


# the vendor's signature of the base


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> c.Keys:
    return c.make_keys(tmp_path_factory.mktemp("vendor") / "pair")


def model_signing(base: Path, signature: Path, vendor: c.Keys, *words: str) -> None:
    command = [sys.executable, "-m", "model_signing", "sign", "key", str(base), "--private_key", str(vendor.private)]
    subprocess.run([*command, "--signature", str(signature), *words], check=True, capture_output=True, timeout=60)


def by_vendor(made: c.Certificate, signature: Path, vendor: c.Keys) -> AnchorFiles:
    return AnchorFiles(keys=(made.keys.public,), base_signature=signature, base_key=vendor.public)


def test_the_vendors_signature_pins_the_base(
    tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_signing(tiny_certificate.base, tmp_path / "base.sig", vendor)
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert result.verdict == "PASS", result.headline
    assert result.trust.base_digest == "signed by the vendor"
    assert "signed by the vendor" in result.rests_on
    assert not any("producer's claim" in text for text in result.limitations)
    words = result.repeat.split()[1:]
    assert exit_code(words) == 0
    assert "the folder that the vendor's key signed" in " ".join(capsys.readouterr().out.split())


def test_a_signature_within_the_base_and_gits_files(vendor: c.Keys, tiny_keys: c.Keys, tmp_path: Path) -> None:
    base = c.save_base(c.random_model(), tmp_path / "base")
    (base / ".gitattributes").write_text("*.safetensors filter=lfs")
    model_signing(base, base / "model.sig", vendor)
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base))
    given = by_vendor(made, base / "model.sig", vendor)
    assert ask(made, given).verdict == "PASS"
    other = tmp_path / "other.sig"
    model_signing(base, other, vendor, "--ignore-paths", str(base / "model.sig"))
    result = ask(made, replace(given, base_signature=other))
    assert failures(result) == {"MV107"}
    assert "not signed: 'model.sig'" in found(result, "MV107")


def test_a_file_that_the_vendor_left_out(tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path) -> None:
    left_out = str(tiny_certificate.base / "config.json")
    model_signing(tiny_certificate.base, tmp_path / "base.sig", vendor, "--ignore-paths", left_out)
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert failures(result) == {"MV107"}
    assert result.trust.base_digest == "not established"


def test_another_base(tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path) -> None:
    base = c.save_base(c.random_model(seed=1), tmp_path / "base")
    model_signing(base, tmp_path / "base.sig", vendor)
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert failures(result) == {"MV107"}
    assert "other content: 'model.safetensors'" in found(result, "MV107")


def test_a_falsified_base_meets_the_vendors_signature(
    certificate: c.Certificate, vendor: c.Keys, tmp_path: Path
) -> None:
    """An undeclared change, hidden in a base that the producer made up: the producer's word fits, the vendor's not."""
    model_signing(certificate.base, tmp_path / "base.sig", vendor)
    name = next(name for name in c.linear_weights(certificate.base) if name not in certificate.edits)
    c.poke(certificate, name, 0, c.value_at(certificate, name, 1))
    c.sign(certificate, c.rebuilt_digests(certificate))
    assert "MV107" not in failures(ask(certificate))
    assert "MV107" in failures(ask(certificate, by_vendor(certificate, tmp_path / "base.sig", vendor)))


def test_the_certified_model_is_not_its_base(tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path) -> None:
    model_signing(tiny_certificate.out / "model", tmp_path / "base.sig", vendor)
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert failures(result) == {"MV107"}


def test_the_producers_key_is_not_the_vendors(tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path) -> None:
    model_signing(tiny_certificate.base, tmp_path / "base.sig", tiny_certificate.keys)
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert failures(result) == {"MV107"}
    assert "do not trust" in found(result, "MV107")


@pytest.mark.parametrize(("change", "reason"), STATEMENTS)
def test_a_base_signature_that_says_something_else(
    tiny_certificate: c.Certificate,
    vendor: c.Keys,
    tmp_path: Path,
    change: Callable[[Any], None],
    reason: str,
) -> None:
    key = load_private(vendor.private)
    good = sign("base", c.digests_of(tiny_certificate.base), Signer(key))
    (tmp_path / "base.sig").write_bytes(resigned(good, key, change))
    result = ask(tiny_certificate, by_vendor(tiny_certificate, tmp_path / "base.sig", vendor))
    assert failures(result) == {"MV107"}
    assert reason in found(result, "MV107")


def test_a_pin_and_a_signature_must_both_hold(tiny_certificate: c.Certificate, vendor: c.Keys, tmp_path: Path) -> None:
    model_signing(tiny_certificate.base, tmp_path / "base.sig", vendor)
    given = by_vendor(tiny_certificate, tmp_path / "base.sig", vendor)
    assert failures(ask(tiny_certificate, replace(given, base_digests={"": c.ZERO}))) == {"MV107"}


def test_other_properties_of_the_predicate_are_ignored_as_oms_has_it(tiny_keys: c.Keys) -> None:
    key = load_private(tiny_keys.private)
    good = sign("m", {"a": c.ZERO, "b/c": c.ZERO}, Signer(key))
    more = resigned(good, key, lambda statement: statement["predicate"].update(card="x"))
    trusted = Trusted((key.public_key(),))
    assert read(more, trusted, check_id="MV112").files == {"a": c.ZERO, "b/c": c.ZERO}
    for where in ((), ("predicate", "serialization"), ("predicate", "resources", 0)):

        def extra(statement: Any, where: tuple[Any, ...] = where) -> None:
            for step in where:
                statement = statement[step]
            statement["extra"] = 1

        with pytest.raises(ArtefactError) as caught:
            read(resigned(good, key, extra), trusted, check_id="MV112")
        assert caught.value.id == "MV112"


def test_files_are_listed_in_the_tools_order(tiny_keys: c.Keys) -> None:
    """`model_signing` sorts by the parts of a path: a/b comes before a.b."""
    names = ["b", "a.b", "a/b", "a/B", ".gitignore", ".git/x", ".github/y", "sub/.gitignore"]
    data = sign("m", dict.fromkeys(names, c.ZERO), Signer(load_private(tiny_keys.private)))
    statement = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
    listed = [entry["name"] for entry in statement["predicate"]["resources"]]
    assert listed == ["a/B", "a/b", "a.b", "b", "sub/.gitignore"]
