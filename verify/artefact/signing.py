"""Who signs, and who is trusted to have signed: keys, or certificates under roots. All of it is the user's own word."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact.certificates import CertificateTrust, load_chain
from verify.artefact.keys import load_private


@dataclass(frozen=True)
class Signer:
    """A private key to sign with and, where it has one, the chain of its certificate (DER, leaf first, no root)."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Trusted:
    """Whose signature the user accepts: that of a key, or that of an identity under given roots."""

    keys: tuple[ec.EllipticCurvePublicKey, ...] = ()
    certificates: CertificateTrust | None = None

    def __bool__(self) -> bool:
        """Tell whether anybody is trusted at all."""
        return bool(self.keys) or self.certificates is not None


def load_signer(key: Path, certificate: Path | None = None) -> Signer:
    """Read a private key in PEM and, if given, its certificate's chain. UsageError where they do not fit together."""
    private = load_private(key)
    return Signer(private, () if certificate is None else load_chain(certificate, private.public_key()))
