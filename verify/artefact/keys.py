"""Signing keys: ECDSA P-256 as PEM files, the one type that every DSSE and model-signing tool accepts."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact.named import read_named
from verify.errors import UsageError

PRIVATE_NAME = "private.pem"
PUBLIC_NAME = "public.pem"
PEM_LIMIT = 64 * 1024
"""Bytes of a file of keys or certificates."""
_REMEDY = "make a pair with the key command, or with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"


def generate() -> tuple[bytes, bytes]:
    """Return a new P-256 key pair as (unencrypted PKCS #8 PEM, SubjectPublicKeyInfo PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def fingerprint(public_key: ec.EllipticCurvePublicKey) -> str:
    """Return the lower-case hexadecimal sha256 of the key's SubjectPublicKeyInfo in DER."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def oms_hint(public_key: ec.EllipticCurvePublicKey) -> str:
    """Return the lower-case hexadecimal sha256 of the key's PEM text: how OpenSSF Model Signing names a key."""
    pem = public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def require_p256(curve: ec.EllipticCurve, *, name: str) -> None:
    """Raise UsageError unless `curve` is P-256; `name` says whose key it is."""
    if not isinstance(curve, ec.SECP256R1):
        raise UsageError(f"{name}: unsupported curve", expected="P-256", found=curve.name, remedy=_REMEDY)


def load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted P-256 private key in PEM. Raises UsageError for anything else."""
    data = read_named(path, what="key", limit=PEM_LIMIT, remedy=_REMEDY)
    if b"PRIVATE KEY-----" not in data:
        raise UsageError(f"{path} holds no private key in PEM", found=_heading(data), remedy=_REMEDY)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        remedy = "decrypt it first, for instance with: openssl pkey -in KEY -out PLAIN"
        raise UsageError(f"{path} is encrypted", expected="an unencrypted key", remedy=remedy) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a readable private key", found=_heading(data), remedy=_REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path}: unsupported key type", expected="ECDSA P-256", remedy=_REMEDY)
    require_p256(key.curve, name=str(path))
    return key


def load_public(path: Path) -> ec.EllipticCurvePublicKey:
    """Read one P-256 public key in PEM.

    Raises UsageError for anything else, a private key or a second key in the file included: a verifier's
    machine has no business with the first, and silently ignoring the second would hide whom the user trusts.
    """
    data = read_named(path, what="key", limit=PEM_LIMIT, remedy=_REMEDY)
    if b"PRIVATE KEY-----" in data:
        raise UsageError(
            f"{path} is a private key, where a public key is wanted",
            remedy=f"give {PUBLIC_NAME}; a private key stays with its signer",
        )
    if data.count(b"-----BEGIN ") != 1:
        raise UsageError(f"{path} must hold exactly one public key in PEM", found=_heading(data), remedy=_REMEDY)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a readable public key", found=_heading(data), remedy=_REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError(f"{path}: unsupported key type", expected="ECDSA P-256", remedy=_REMEDY)
    require_p256(key.curve, name=str(path))
    return key


def write_key_pair(folder: Path) -> tuple[Path, Path]:
    """Write a new pair into `folder` (made if missing) and return (private path, public path).

    The private key has mode 0600 from its creation on. Raises UsageError when either file exists already.
    """
    private_path, public_path = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise _exists(path)
    private, public = generate()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _create(private_path, private, 0o600)
        try:
            _create(public_path, public, 0o644)
        except BaseException:
            private_path.unlink()  # ours: O_EXCL made it
            raise
    except FileExistsError as error:
        raise _exists(Path(cast("str", error.filename))) from error
    except OSError as error:
        raise UsageError(f"cannot write keys to {folder}: {error.strerror}", remedy="choose another folder") from error
    return private_path, public_path


def _create(path: Path, data: bytes, mode: int) -> None:
    """Create `path`, which must not exist; a failed write leaves nothing behind."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        raise


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path} exists already and is not overwritten", remedy="choose another folder, or move it away")


def _heading(data: bytes) -> str:
    """Return what the file seems to be, without showing any of a key's own bytes."""
    start = data.find(b"-----BEGIN ")
    if start < 0:
        return "no PEM block"
    label = data[start + 11 : start + 51].split(b"-----")[0]
    return f"PEM block {label!r}"
