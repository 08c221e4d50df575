"""Interoperation: other tools read what mansu writes, and mansu reads what they write. Every tool is really run.

`model_signing` on model.sig and on the vendor's base, `securesystemslib`, `sigstore` and npm's `@sigstore/verify` on
m.json. The tools' own checks count, not their exit code alone: each must refuse a spoiled copy.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import authority
import certificates as c
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

# here and not within a test: its import tries out a socket, which tests may not
from sigstore.errors import Error
from sigstore.models import Bundle, InvalidBundle

from verify.artefact import load_private, load_public, read_unverified, walk
from verify.artefact.keys import fingerprint
from verify.artefact.oms import sign
from verify.artefact.signing import Signer

INTEROP = Path(__file__).parent / "interop"
MODEL_SIGNING = (sys.executable, "-m", "model_signing")


@pytest.fixture(scope="module")
def signed(tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory) -> c.Certificate:
    """Return a certificate with a model.sig; not to be written to."""
    made = tiny_certificate.copied_to(tmp_path_factory.mktemp("signed") / "out")
    write_model_signature(made)
    return made


def write_model_signature(made: c.Certificate, chain: tuple[bytes, ...] = ()) -> None:
    digests = c.digests_of(made.out / "model")
    signer = Signer(load_private(made.keys.private), chain)
    (made.out / "model.sig").write_bytes(sign("model", digests, signer))


def run(*words: str | Path, ok: bool = True) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def model_signing_verify(out: Path, key: Path, *, ok: bool = True) -> str:
    return run(
        *(*MODEL_SIGNING, "verify", "key", out / "model"),
        *("--signature", out / "model.sig", "--public_key", key),
        ok=ok,
    )


def test_model_signing_accepts_model_sig(signed: c.Certificate) -> None:
    assert "Verification succeeded" in model_signing_verify(signed.out, signed.keys.public)


@pytest.mark.parametrize("spoil", ["change", "add", "remove", "rename"])
def test_model_signing_refuses_another_folder(signed: c.Certificate, tmp_path: Path, spoil: str) -> None:
    made = signed.copied_to(tmp_path / "out")
    config = made.out / "model" / "config.json"
    match spoil:
        case "change":
            config.write_bytes(config.read_bytes() + b" ")
        case "add":
            config.with_name("extra.json").write_text("{}")
        case "remove":
            config.unlink()
        case _:
            config.rename(config.with_name("renamed.json"))
    assert "mismatch" in model_signing_verify(made.out, made.keys.public, ok=False).lower()


def test_model_signing_refuses_another_key(signed: c.Certificate, tmp_path: Path) -> None:
    model_signing_verify(signed.out, c.make_keys(tmp_path / "thief").public, ok=False)


def test_model_signing_accepts_gits_files_beside_the_signed(signed: c.Certificate, tmp_path: Path) -> None:
    made = signed.copied_to(tmp_path / "out")
    (made.out / "model" / ".gitattributes").write_text("*.safetensors filter=lfs")
    write_model_signature(made)
    model_signing_verify(made.out, made.keys.public)


def test_model_signing_accepts_a_certificate(signed: c.Certificate, tmp_path: Path) -> None:
    made, root = signed.copied_to(tmp_path / "out"), authority.Issuer()
    leaf = root.issue(load_public(made.keys.public))
    write_model_signature(made, authority.der(leaf))
    (tmp_path / "root.pem").write_bytes(authority.pem(root.certificate))
    verify = (*MODEL_SIGNING, "verify", "certificate", made.out / "model", "--signature", made.out / "model.sig")
    assert "succeeded" in run(*verify, "--certificate_chain", tmp_path / "root.pem")
    (tmp_path / "root.pem").write_bytes(authority.pem(authority.Issuer().certificate))
    run(*verify, "--certificate_chain", tmp_path / "root.pem", ok=False)


def envelope_of(made: c.Certificate) -> dict:
    return json.loads(made.manifest.read_bytes())["dsseEnvelope"]


def spoiled(envelope: dict) -> dict:
    payload = base64.b64decode(envelope["payload"]).replace(b'"name":"test"', b'"name":"tesT"')
    return {**envelope, "payload": base64.b64encode(payload).decode()}


def test_securesystemslib_verifies_the_manifest(signed: c.Certificate) -> None:
    public = load_public(signed.keys.public)
    key = SSlibKey.from_crypto(public, keyid=fingerprint(public))
    envelope = Envelope.from_dict(envelope_of(signed))
    assert list(envelope.verify([key], 1)) == [fingerprint(public)]
    with pytest.raises(VerificationError):
        Envelope.from_dict(spoiled(envelope_of(signed))).verify([key], 1)


def test_sigstore_reads_the_bundle_and_verifies_its_envelope(signed: c.Certificate) -> None:
    """What sigstore's Python package can do with a plain key: its models and its DSSE, below its `Verifier`."""
    from sigstore import dsse
    from sigstore.errors import VerificationError as SigstoreError
    from sigstore_models.bundle.v1 import Bundle

    bundle = Bundle.from_json(signed.manifest.read_bytes())
    assert bundle.verification_material.public_key is not None
    assert bundle.dsse_envelope is not None
    public = load_pem_public_key(signed.keys.public.read_bytes())
    payload = dsse._verify(public, dsse.Envelope(bundle.dsse_envelope))
    assert dsse.Statement(payload)._matches_digest(_hashed(signed.ledger))
    with pytest.raises(SigstoreError):
        dsse._verify(public, dsse.Envelope._from_json(json.dumps(spoiled(envelope_of(signed)))))


def _hashed(path: Path) -> "object":
    from sigstore.hashes import Hashed
    from sigstore_models.common.v1 import HashAlgorithm

    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=hashlib.sha256(path.read_bytes()).digest())


def test_sigstores_verifier_takes_no_plain_key(signed: c.Certificate) -> None:
    """Should a later version take one, this test fails, and docs/interoperation.md is to be changed."""
    with pytest.raises((InvalidBundle, Error), match="certificate"):
        Bundle.from_json(signed.manifest.read_bytes())


def test_a_files_digest_finds_the_manifest(signed: c.Certificate) -> None:
    """The look-up of `cosign verify-blob-attestation --digest`: a subject whose sha256 is the file's own."""
    statement = read_unverified(signed.manifest.read_bytes())
    subjects = {subject.digest.sha256: subject.name for subject in statement.subject}
    for name in walk(signed.out):
        if name not in {"m.json", "model.sig"}:
            assert subjects[hashlib.sha256((signed.out / name).read_bytes()).hexdigest()] == name
    payload = json.loads(base64.b64decode(envelope_of(signed)["payload"]))
    assert all(set(subject["digest"]) == {"sha256"} for subject in payload["subject"])


@pytest.fixture(scope="module")
def verify_mjs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the script in a folder where the pinned packages are installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    if (INTEROP / "node_modules" / "@sigstore" / "verify").is_dir():
        return INTEROP / "verify.mjs"
    folder = tmp_path_factory.mktemp("interop")
    for name in ("package.json", "package-lock.json", "verify.mjs"):
        shutil.copy(INTEROP / name, folder)
    run("npm", "ci", "--silent", "--prefix", folder)
    return folder / "verify.mjs"


def test_npms_sigstore_verifies_manifest_and_model_signature(
    signed: c.Certificate, verify_mjs: Path, tmp_path: Path
) -> None:
    key = signed.keys.public
    printed = run("node", verify_mjs, signed.manifest, key)
    assert printed.encode() == base64.b64decode(envelope_of(signed)["payload"])
    assert "model_signing/signature" in run("node", verify_mjs, signed.out / "model.sig", key)
    bundle = json.loads(signed.manifest.read_bytes())
    (tmp_path / "m.json").write_text(json.dumps({**bundle, "dsseEnvelope": spoiled(bundle["dsseEnvelope"])}))
    assert "signature verification failed" in run("node", verify_mjs, tmp_path / "m.json", key, ok=False)
    assert "key not found" in run("node", verify_mjs, signed.manifest, c.make_keys(tmp_path / "thief").public, ok=False)
