import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from verify.artefact import keys
from verify.errors import UsageError

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PLAIN = serialization.NoEncryption()


def test_pair_round_trip(tmp_path: Path) -> None:
    private_path, public_path = keys.write_key_pair(tmp_path / "new" / "keys")
    private, public = keys.load_private(private_path), keys.load_public(public_path)
    assert keys.fingerprint(private.public_key()) == keys.fingerprint(public)
    public.verify(private.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))


def test_modes_hold_from_creation_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    real_open = os.open

    def watching(path: str, flags: int, mode: int = 0o777) -> int:
        fd = real_open(path, flags, mode)
        modes.append((Path(path).name, stat.S_IMODE(os.fstat(fd).st_mode)))
        return fd

    monkeypatch.setattr(os, "open", watching)
    old = os.umask(0)
    try:
        private_path, public_path = keys.write_key_pair(tmp_path)
    finally:
        os.umask(old)
    assert ("private.pem", 0o600) in modes
    assert stat.S_IMODE(private_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(public_path.stat().st_mode) == 0o644


@pytest.mark.parametrize("existing", ["private.pem", "public.pem"])
def test_existing_keys_are_not_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(UsageError, match="not overwritten"):
        keys.write_key_pair(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


@pytest.mark.parametrize("existing", ["private.pem", "public.pem"])
def test_a_key_that_appears_after_the_look_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: str
) -> None:
    (tmp_path / existing).write_text("precious")
    monkeypatch.setattr(keys.os.path, "lexists", lambda _path: False)
    with pytest.raises(UsageError, match=f"{existing} exists already"):
        keys.write_key_pair(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "private.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not overwritten"):
        keys.write_key_pair(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def _private(kind: str) -> PrivateKey:
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def _refused_private() -> Iterator[tuple[str, bytes, str]]:
    encrypted = _private("p256").private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret"))
    yield "encrypted", encrypted, "encrypted"
    yield "p384", _private("p384").private_bytes(PEM, PKCS8, PLAIN), "unsupported curve"
    yield "ed25519", _private("ed25519").private_bytes(PEM, PKCS8, PLAIN), "unsupported key type"
    yield "public", keys.generate()[1], "no private key"
    yield "garbage", b"\x00\x01", "no private key"
    yield "torn", keys.generate()[0][:90] + b"\n-----END PRIVATE KEY-----\n", "not a readable"
    yield "huge", b" " * 70_000, "too large"


def _refused_public() -> Iterator[tuple[str, bytes, str]]:
    private, public = keys.generate()
    yield "private", private, "is a private key"
    yield "both", private + public, "is a private key"
    yield "two", public + keys.generate()[1], "exactly one"
    yield "p384", _private("p384").public_key().public_bytes(PEM, SPKI), "unsupported curve"
    yield "ed25519", _private("ed25519").public_key().public_bytes(PEM, SPKI), "unsupported key type"
    yield "empty", b"", "exactly one"
    yield "torn", public[:60] + b"\n-----END PUBLIC KEY-----\n", "not a readable"


@pytest.mark.parametrize(("data", "reason"), [pytest.param(d, r, id=i) for i, d, r in _refused_private()])
def test_private_key_refusals(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=reason) as caught:
        keys.load_private(path)
    assert caught.value.remedy


@pytest.mark.parametrize(("data", "reason"), [pytest.param(d, r, id=i) for i, d, r in _refused_public()])
def test_public_key_refusals(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=reason) as caught:
        keys.load_public(path)
    assert caught.value.remedy


def test_missing_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the key"):
        keys.load_public(tmp_path / "none.pem")


def test_messages_never_show_key_bytes(tmp_path: Path) -> None:
    private, _ = keys.generate()
    path = tmp_path / "key.pem"
    path.write_bytes(private)
    with pytest.raises(UsageError) as caught:
        keys.load_public(path)
    body = private.splitlines()[1].decode()
    assert body[:16] not in caught.value.diagnostic()
