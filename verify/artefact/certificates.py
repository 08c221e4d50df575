"""X.509: a signer named by an identity, under roots that the user gives. The system's store is never asked.

The path is built and checked by `cryptography.x509.verification` (RFC 5280 as profiled for the web), with one change:
where a TLS client certificate would be asked for, a code-signing certificate is. What that profile leaves to its caller
is checked here: the identity, the kind of key, and that the leaf is a leaf.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from verify.artefact.envelope import BAD_SIGNATURE, shown
from verify.artefact.keys import PEM_LIMIT
from verify.artefact.named import read_named
from verify.errors import ArtefactError, UsageError

MAX_CHAIN = 5
"""Certificates that a signer may send along, the leaf among them."""
_UNREADABLE = (
    ValueError,
    Warning,
    TypeError,  # a name whose value is of another type than its attribute has
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for certificates that it cannot read, some of it only when a part is looked at."""
_KINDS: dict[str, type[x509.RFC822Name | x509.UniformResourceIdentifier | x509.DNSName]]
_KINDS = {"e-mail": x509.RFC822Name, "URI": x509.UniformResourceIdentifier, "DNS name": x509.DNSName}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_REMEDY = "obtain the certificate again from its producer; root and identity must come from you, not with the files"


@dataclass(frozen=True)
class CertificateTrust:
    """Whom the user trusts by certificate: an identity, spelled as in the certificate, vouched for by these roots."""

    roots: tuple[x509.Certificate, ...]
    identity: str

    def leaf(self, chain: Sequence[bytes], at: datetime) -> "Leaf":
        """Return the signer of a chain of DER certificates (leaf first, then intermediates) that is trusted at `at`.

        Raises ArtefactError MV103 for a chain that leads to none of the roots, a certificate that is expired, not yet
        valid or not for code signing, a leaf that is self-signed, a CA or one of the roots, another identity, and a key
        that is not P-256.
        """
        if not 0 < len(chain) <= MAX_CHAIN:
            raise _refused("the number of certificates", f"1 to {MAX_CHAIN}", str(len(chain)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of certificates that a later version of cryptography will not read
                leaf, *intermediates = [_read(der) for der in chain]
                _require_leaf(leaf, self.roots)
                key = _p256_key(leaf)
                names = _identities(leaf)
                _verifier(self.roots, at).verify(leaf, intermediates)
        except VerificationError as error:
            found = f"{error} (valid {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d})"
            expected = f"a chain to a root given with --cert-root, for code signing, valid on {at:%Y-%m-%d}"
            raise _refused("the certificate is not trusted", expected, shown(found, 200)) from error
        except _UNREADABLE as error:
            raise _refused("a certificate cannot be read", "X.509 version 3", shown(str(error), 200)) from error
        kind = _kind(self.identity)
        if (kind, self.identity) not in names:
            found = ", ".join(f"{name_kind} {shown(name)}" for name_kind, name in names) or "no name"
            raise _refused("the certificate is another's", f"{kind} {shown(self.identity)}", found)
        return Leaf(key, leaf.not_valid_before_utc, leaf.not_valid_after_utc, self.identity)


@dataclass(frozen=True)
class Leaf:
    """A trusted signer: the P-256 key, the time in which its certificate is valid, and who it is."""

    key: ec.EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime
    identity: str

    def require_made_within(self, created: str) -> None:
        """Raise ArtefactError MV103 unless `created`, ISO 8601 with a zone, lies in the certificate's time."""
        try:
            moment = datetime.fromisoformat(created)
            inside = moment.tzinfo is not None and self.not_before <= moment <= self.not_after
        except ValueError:
            inside = False
        if not inside:
            expected = f"a time between {self.not_before:%Y-%m-%dT%H:%M:%SZ} and {self.not_after:%Y-%m-%dT%H:%M:%SZ}"
            raise _refused("signed outside the certificate's time", expected, shown(created))


def load_roots(paths: Sequence[Path]) -> tuple[x509.Certificate, ...]:
    """Read the roots that the user trusts, one or more PEM certificates a file. UsageError for anything else."""
    return tuple(certificate for path in paths for certificate in _load(path))


def load_chain(path: Path, key: ec.EllipticCurvePublicKey, at: datetime | None = None) -> tuple[bytes, ...]:
    """Read a signer's chain (PEM: its own certificate, then intermediates, no root) and return it as DER.

    Raises UsageError unless the first certificate is for `key` and for code signing, each is valid at `at` (now), and
    none is a root.
    """
    leaf, *intermediates = _load(path)
    if leaf.public_key() != key:
        remedy = "put the signer's own certificate first"
        raise UsageError(f"{path}: the first certificate is not for this private key", remedy=remedy)
    if any(certificate.issuer == certificate.subject for certificate in (leaf, *intermediates)):
        remedy = "leave the root out: whoever verifies has it from elsewhere"
        raise UsageError(f"{path} holds a self-signed certificate", remedy=remedy)
    moment = at or now()
    if any(not each.not_valid_before_utc <= moment <= each.not_valid_after_utc for each in (leaf, *intermediates)):
        expected = f"certificates that are valid at {moment:%Y-%m-%dT%H:%M:%SZ}"
        raise UsageError(f"{path} is not valid now", expected=expected, remedy="have a new certificate issued")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for_code = ExtendedKeyUsageOID.CODE_SIGNING in usage and bool(_identities(leaf))
    except (x509.ExtensionNotFound, *_UNREADABLE):
        for_code = False
    if not for_code:
        expected = "extended key usage code signing, and an e-mail address, URI or DNS name as alternative name"
        raise UsageError(f"{path}: not a code-signing certificate", expected=expected)
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in (leaf, *intermediates))


def alternative_name(identity: str) -> x509.GeneralName:
    """Return an identity as the alternative name that stands for it in a certificate; UsageError for what cannot."""
    try:
        if not identity or not identity.isprintable():
            raise ValueError("empty or not printable")  # noqa: TRY301  (one exit)
        return _KINDS[_kind(identity)](identity)
    except ValueError as error:
        expected = "an e-mail address, a URI or a DNS name, in ASCII"
        raise UsageError("this identity cannot be certified", expected=expected, found=ascii(identity)) from error


def signing_request(key: ec.EllipticCurvePrivateKey, name: x509.GeneralName) -> bytes:
    """Return a PEM request to a CA: certify `name` for code signing with this key."""
    flags = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    rest = dict.fromkeys(("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mansu signer")]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **flags, **rest), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
    )
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def now() -> datetime:
    """Return the present time: the one at which a certificate must be valid, for nobody vouches for any earlier one."""
    return datetime.now(UTC)


def _load(path: Path) -> list[x509.Certificate]:
    data = read_named(path, what="certificate", limit=PEM_LIMIT)
    try:
        if b"PRIVATE KEY-----" in data:
            raise ValueError("it holds a private key")
        return x509.load_pem_x509_certificates(data)
    except _UNREADABLE as error:
        remedy = "give certificates in PEM, and nothing else"
        raise UsageError(f"{path} is no list of certificates", found=ascii(str(error)), remedy=remedy) from error


def _read(der: bytes) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(der)
    # the one byte that no signature covers and the parser lets vary: the count of unused bits before the signature
    if not der.endswith(b"\0" + certificate.signature):
        raise ValueError("not in DER: unused bits in a signature")
    return certificate


def _verifier(roots: Sequence[x509.Certificate], at: datetime) -> "x509.verification.ClientVerifier":
    ca = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_code_signing_if_limited
    )
    leaf = (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_code_signing)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _for_signatures)
    )
    builder = PolicyBuilder().store(Store(list(roots))).time(at).max_chain_depth(MAX_CHAIN)
    return builder.extension_policies(ca_policy=ca, ee_policy=leaf).build_client_verifier()


def _for_code_signing(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise ValueError("not for code signing")


def _for_code_signing_if_limited(
    policy: Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    if usage is not None and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
        _for_code_signing(policy, certificate, usage)


def _for_signatures(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign:
        raise ValueError("its key usage is not that of a signer")


def _require_leaf(leaf: x509.Certificate, roots: Sequence[x509.Certificate]) -> None:
    """Refuse a signer that vouches for itself, whatever the path builder would say of it."""
    if leaf.issuer == leaf.subject or leaf in roots:
        raise _refused("the signer's certificate is self-signed or a root", "one issued by a CA", shown(leaf.subject))
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return
    if constraints.ca:
        raise _refused("the signer's certificate is a CA's", "a certificate that issues no others", "CA: true")


def _p256_key(leaf: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        found = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise _refused("the signer's key", "ECDSA P-256", found)
    return key


def _identities(leaf: x509.Certificate) -> list[tuple[str, str]]:
    """Return the alternative names that can be an identity, each with its kind."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [(kind, name) for kind, of in _KINDS.items() for name in names.get_values_for_type(of)]


def _kind(identity: str) -> str:
    """Return what an identity is by its form, so that a DNS name never stands for an address of its spelling."""
    if _URI.match(identity):
        return "URI"
    return "e-mail" if "@" in identity else "DNS name"


def _refused(message: str, expected: str, found: str) -> ArtefactError:
    return ArtefactError(BAD_SIGNATURE, message, expected=expected, found=found, remedy=_REMEDY)
