"""Trust anchors: everything that a verdict may rest on besides the files, each given by the user and by nobody else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact.certificates import CertificateTrust, load_roots
from verify.artefact.envelope import MAX_BYTES
from verify.artefact.keys import load_public
from verify.artefact.named import read_named
from verify.artefact.signing import Trusted
from verify.errors import UsageError


@dataclass(frozen=True)
class BaseSignature:
    """The vendor's OMS bundle over the base model, not yet verified, and the vendor's key."""

    bundle: bytes
    key: ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Anchors:
    """Whose manifest is trusted, and what the base must be.

    `base_digests` pins base files by name ("" for the only weight file) to their sha256.
    """

    trusted: Trusted = field(default_factory=Trusted)
    base_digests: Mapping[str, str] = field(default_factory=dict)
    base_signature: BaseSignature | None = None


@dataclass(frozen=True)
class AnchorFiles:
    """The anchors as the user gives them: paths, names and digests. Half of a pair is refused when they are loaded."""

    keys: tuple[Path, ...] = ()
    cert_roots: tuple[Path, ...] = ()
    cert_identity: str | None = None
    base_digests: Mapping[str, str] = field(default_factory=dict)
    base_signature: Path | None = None
    base_key: Path | None = None

    def load(self) -> Anchors:
        """Read every file. Raises UsageError for one that cannot be read, and for a root without identity and so on."""
        if bool(self.cert_roots) != bool(self.cert_identity):
            remedy = (
                "give both --cert-root and --cert-identity: a root without a name would trust all it ever certified"
            )
            raise UsageError("a root and an identity belong together", remedy=remedy)
        if (self.base_signature is None) != (self.base_key is None):
            remedy = "give both --base-signature and --base-key, the key obtained from the vendor"
            raise UsageError("a signature of the base and its key belong together", remedy=remedy)
        certificates = CertificateTrust(load_roots(self.cert_roots), self.cert_identity) if self.cert_identity else None
        signature = None
        if self.base_signature is not None and self.base_key is not None:
            bundle = read_named(self.base_signature, what="signature", limit=MAX_BYTES)
            signature = BaseSignature(bundle, load_public(self.base_key))
        trusted = Trusted(tuple(load_public(path) for path in self.keys), certificates)
        return Anchors(trusted, dict(self.base_digests), signature)

    def words(self) -> list[str]:
        """Return the options of `mansu-verify` that give these anchors, keys apart from the others."""
        words = []
        for name, digest in self.base_digests.items():
            words += ["--base-digest", f"{name}={digest}" if name else digest]
        for root in self.cert_roots:
            words += ["--cert-root", str(root)]
        options = (
            ("--cert-identity", self.cert_identity),
            ("--base-signature", self.base_signature),
            ("--base-key", self.base_key),
        )
        for option, value in options:
            if value is not None:
                words += [option, str(value)]
        return words
