"""Certification authorities made on the spot: honest ones, and what a dishonest or careless one would issue."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MAIL = "release@example.com"
URI = "https://example.com/release"
NAMES = (x509.RFC822Name(MAIL), x509.DNSName("example.com"))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A CA: its key and certificate. `issue` makes what it signs; every default is what an honest CA would write."""

    def __init__(self, text: str = "root", parent: "Issuer | None" = None, **changes: Any) -> None:
        self.key = new_key()
        self.subject = name(text)
        options: dict[str, Any] = {"ca": True, "usage": None, "names": None} | changes
        self.certificate = (parent or self).issue(self.key.public_key(), subject=self.subject, **options)

    def issue(
        self,
        key: Any,
        *,
        subject: x509.Name | None = None,
        ca: bool = False,
        usage: Any = ExtendedKeyUsageOID.CODE_SIGNING,
        names: Sequence[x509.GeneralName] | None = NAMES,
        start: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        digital_signature: bool = True,
        key_usage: bool = True,
        length: int | None = None,
    ) -> x509.Certificate:
        issuer = getattr(self, "certificate", None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("signer") if subject is None else subject)
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if issuer is not None:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        if key_usage:
            flags = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
            )
            flags |= {"encipher_only": False, "decipher_only": False, "crl_sign": ca, "key_cert_sign": ca}
            builder = builder.add_extension(x509.KeyUsage(digital_signature=digital_signature, **flags), critical=True)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def der(*certificates: x509.Certificate) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
