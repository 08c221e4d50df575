"""The policy: what a certificate must meet, and how its numbers are judged. Its digest is in the result.

A policy file (docs/policy.md) is one `Policy` in TOML. What is absent is not required, except `level`, which every file
must state: an empty or truncated file may not pass for a lenient policy. A list that is given is never empty, for the
same reason. The published schema is spec/schemas/policy.schema.json.
"""

import hashlib
from typing import Annotated, Any, Final, Literal

import rfc8785
from pydantic import ConfigDict, Field, StringConstraints

from verify.contract.manifest import Profile
from verify.contract.schema import Schema, Sha256

POLICY_SCHEMA: Final = "urn:mansu:policy/v1"

AssuranceLevel = Literal["static", "full", "own-probes"]
"""`static` runs no model; `full` measures on the producer's probes; `own-probes` on the auditor's."""

Rule = Literal["point", "interval", "overlap"]
"""Which side of a 95 % interval counts: none (the measured value), the worse end, or the better end."""

_LARGEST: Final = 2**53 - 1
"""Integers beyond have no RFC 8785 form."""

_NAME = r"^[^\x00-\x1f\x7f]{1,1000}$"
FileName = Annotated[str, StringConstraints(pattern=_NAME)]
"""A path or a label, without control characters."""


class TrustedKey(Schema):
    """A key whose signature counts. The fingerprint is what is trusted; the path only says where the key lies."""

    fingerprint: Sha256 = Field(description="sha256 of the key's SubjectPublicKeyInfo in DER")
    path: FileName | None = Field(
        default=None, description="PEM file, relative to the policy file; without it the key must be given by --key"
    )


class AllowedBase(Schema):
    """A base model by the digests of its files: all its weight files, and any others that matter."""

    name: FileName = Field(description="what to call it in the result")
    files: dict[FileName, Sha256] = Field(
        min_length=1,
        max_length=4096,
        description="file name within the model folder: sha256; every weight file",
        json_schema_extra={"additionalProperties": False},  # else names that are none would be admitted
    )


class Policy(Schema):
    """What a verdict rests on. The defaults are mansu's own; they apply without a policy file.

    `block_size` is the one that a certificate must cover, whatever other profiles it claims: `transformers` has 64.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["level"]})

    # what is required
    level: AssuranceLevel = Field(default="static", description="least level of checks that must have been run")
    trusted_keys: tuple[TrustedKey, ...] | None = Field(
        default=None, min_length=1, max_length=64, description="the only keys whose signature counts"
    )
    bases: tuple[AllowedBase, ...] | None = Field(
        default=None, min_length=1, max_length=256, description="the rebuilt base must be one of these"
    )
    profiles: tuple[Profile, ...] | None = Field(
        default=None, min_length=1, max_length=128, description="deployment profiles that must be claimed, and hold"
    )
    maximum_age_days: float | None = Field(
        default=None, gt=0, le=36500, description="greatest age of the manifest, by the verifier's clock"
    )
    minimum_sequence: int = Field(default=1, ge=1, le=_LARGEST, description="least sequence number (against replay)")
    pre_registered: bool = Field(default=False, description="the manifest must have committed to this very policy")
    # how much evidence
    minimum_probes: int = Field(default=100, ge=1, le=_LARGEST)
    minimum_masked: int = Field(default=1, ge=1, le=_LARGEST)
    minimum_pairs: int = Field(default=40, ge=2, le=_LARGEST)
    # permanence and sparsity
    margin: float = Field(default=2.0**-7, gt=0)
    block_size: int = Field(default=64, ge=1, le=_LARGEST)
    maximum_changed: float = Field(default=0.005, gt=0, le=1)
    # forgetting
    forget_accuracy: float = Field(default=0.08, ge=0, le=1)
    forget_rule: Rule = "point"
    base_knows: float = Field(default=0.25, ge=0, le=1)
    # retention
    retention_loss: float = Field(default=0.02, ge=0, le=1)
    retention_rule: Rule = "point"
    perplexity_rise: float = Field(default=0.03, ge=0)
    perplexity_rule: Rule = "point"
    # what NF4 changes
    ptq_gap: float = Field(default=0.0, ge=-1, le=1)
    ptq_gap_rule: Rule = "overlap"
    # structural erasure
    cad: float = Field(default=0.8, ge=0, le=1)
    cad_late: float = Field(default=0.6, ge=0, le=1)
    rho: float = Field(default=0.25, ge=0)
    cad_rule: Rule = "point"
    late_layers: float = Field(default=0.25, gt=0, lt=1)
    retain_cad_excess: float = Field(default=0.15, ge=0, le=1)
    retain_cad_rule: Rule = "point"
    # what the producer claims
    claim_tolerance: float = Field(default=0.02, ge=0)

    def sha256(self) -> str:
        """Return the digest of the policy's RFC 8785 form: every field, those left at their default included."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file."""
    generated = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": POLICY_SCHEMA, **generated}
