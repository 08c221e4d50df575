"""The manifest: the predicate of the in-toto statement that the engine signs (spec/manifest.md).

Everything here is a *claim* of the producer. The verifier recomputes what it can and says what it could not.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from verify.contract.schema import Estimate, FileDigest, Schema, Sha256

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:mansu:unlearning/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Engine(Schema):
    """The program that made the edit."""

    name: str
    version: str


class Request(Schema):
    """What was asked, as commitments: the sets themselves stay with the model's owner."""

    forget_sha256: Sha256
    retain_sha256: Sha256
    forget_lines: int
    retain_lines: int


class Base(Schema):
    """The model before the edit: every file of its folder. `files` names are relative to that folder."""

    files: tuple[FileDigest, ...]


class Method(Schema):
    """How the edit was made. `settings` values are strings, so that 64-bit seeds survive every JSON reader."""

    name: str
    settings: dict[str, str]


class TensorMask(Schema):
    """How many values of a tensor are masked, of how many."""

    tensor: str
    masked: int = Field(ge=1)
    total: int = Field(ge=1)


class Mask(Schema):
    """The masked parameters in totals; their indices are in the ledger, never in JSON."""

    tensors: tuple[TensorMask, ...]
    masked: int = Field(ge=1)
    parameters: int = Field(ge=1)
    ledger_sha256: Sha256


_MODULE_NAME = r"[A-Za-z0-9_.]{1,200}"
ModuleName = Annotated[str, StringConstraints(pattern=f"^{_MODULE_NAME}$")]
"""A module's name, its beginning or its end; `transformers` reads a regular expression, of which some never end."""
Modules = Annotated[tuple[ModuleName, ...], Field(max_length=64)]


def is_module_name(value: object) -> bool:
    """Tell whether a value from another configuration is a `ModuleName`."""
    return isinstance(value, str) and re.fullmatch(_MODULE_NAME, value) is not None


class Profile(Schema):
    """A deployment profile under which the change is claimed to survive: how a deployer quantizes the model.

    `cast` is what the weights are cast to before they are quantized (`dtype` of `from_pretrained`; "none": as stored).
    `skip` is `llm_int8_skip_modules`: None for the rule of `transformers`, which a list, even an empty one, replaces.
    """

    quant_type: Literal["nf4"] = "nf4"
    block_size: Literal[32, 64, 128, 256, 512, 1024, 2048, 4096] = 64
    double_quant: bool = False
    cast: Literal["none", "bf16", "fp16"] = "none"
    skip: Modules | None = None


DEFAULT_PROFILES: Final = tuple(
    Profile(block_size=block_size, double_quant=double_quant, cast=cast)
    for block_size in (64, 128)
    for cast in ("none", "fp16")
    for double_quant in (False, True)
)
"""What mansu builds for and claims: blocks of 64 and 128, both statistics modes, as stored and cast to float16."""


class CircuitClaim(Schema):
    """The circuit that carries the forget set, as the engine found it."""

    edges: int
    edges_total: int
    faithfulness: float
    target: float
    reached: bool


class Claim(Schema):
    """A number that the producer claims and the verifier measures again."""

    axis: Literal["forgetting", "retention", "ptq_gap", "erasure"]
    row: str
    precision: Literal["full", "nf4", "difference"]
    estimate: Estimate


class Predicate(Schema):
    """The manifest's predicate, version 1.

    `policy_sha256` commits to the policy that the producer is to be judged by (`Policy.sha256`): pre-registration.
    """

    engine: Engine
    created: str
    sequence: int = Field(default=1, ge=1)
    previous_sha256: Sha256 | None = None
    policy_sha256: Sha256 | None = None
    request: Request
    base: Base
    method: Method
    mask: Mask
    profiles: tuple[Profile, ...] = Field(min_length=1, max_length=128)
    circuit: CircuitClaim
    claims: tuple[Claim, ...]


class Digest(Schema):
    """in-toto's digest set, with the one algorithm we use."""

    sha256: Sha256


class Subject(Schema):
    """in-toto's resource descriptor of a subject."""

    name: str
    digest: Digest


class Statement(Schema):
    """The in-toto statement that is signed: subjects are every file of the certificate except the manifest."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["urn:mansu:unlearning/v1"]  # noqa: N815  (in-toto's spelling)
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate: Predicate
