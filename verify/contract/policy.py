"""The policy: the thresholds a verdict rests on. They are fixed before the run, and their digest is in the result."""

import hashlib

import rfc8785
from pydantic import Field

from verify.contract.schema import Schema


class Policy(Schema):
    """Thresholds of the four axes, of permanence and of sparsity. The defaults are mansu's own.

    `block_size` is the one that a certificate must cover, whatever other profiles it claims: `transformers` has 64.
    """

    minimum_probes: int = Field(default=100, ge=1)
    minimum_masked: int = Field(default=1, ge=1)
    minimum_pairs: int = Field(default=40, ge=2)
    margin: float = Field(default=2.0**-7, gt=0)
    block_size: int = Field(default=64, ge=1)
    maximum_changed: float = Field(default=0.005, gt=0, le=1)
    forget_accuracy: float = Field(default=0.08, ge=0, le=1)
    base_knows: float = Field(default=0.25, ge=0, le=1)
    retention_loss: float = Field(default=0.02, ge=0, le=1)
    perplexity_rise: float = Field(default=0.03, ge=0)
    ptq_gap: float = Field(default=0.0)
    cad: float = Field(default=0.8, ge=0, le=1)
    cad_late: float = Field(default=0.6, ge=0, le=1)
    late_layers: float = Field(default=0.25, gt=0, lt=1)
    retain_cad_excess: float = Field(default=0.15, ge=0, le=1)
    claim_tolerance: float = Field(default=0.02, ge=0)

    def sha256(self) -> str:
        """Return the digest of the policy's RFC 8785 form."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()
