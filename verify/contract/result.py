"""The result: the one source that text, JSON and HTML render. Renderers compute nothing."""

from typing import Literal

from verify.contract.circuit import CircuitMap
from verify.contract.policy import AssuranceLevel, Policy
from verify.contract.schema import Estimate, FileDigest, Schema, Sha256
from verify.errors import ExitCode

RESULT_SCHEMA = "urn:mansu:result/v1"

Status = Literal["pass", "fail", "undecided", "skipped"]
Verdict = Literal["PASS", "FAIL", "UNDECIDED"]

_EXIT_CODES: dict[Verdict, ExitCode] = {
    "PASS": ExitCode.PASS,
    "FAIL": ExitCode.FAIL,
    "UNDECIDED": ExitCode.UNDECIDED,
}


def exit_code(verdict: Verdict) -> int:
    """Return the exit code that goes with a verdict, and with no other."""
    return int(_EXIT_CODES[verdict])


Level = AssuranceLevel
"""How far the checks went: "own-probes" is the full level on probes of the verifier's user."""

PreRegistration = Literal["to this policy", "to another policy", "to none", "not established"]
"""What policy the manifest committed to; not established where no signature vouches for the manifest."""


BaseTrust = Literal["signed by the vendor", "pinned by the user", "claimed by the producer", "not established"]
"""What the base's digest rests on."""


class CheckResult(Schema):
    """One check: its stable id, what it asks, and the answer."""

    id: str
    group: Literal["integrity", "permanence", "forgetting", "retention", "erasure", "policy", "deployed"]
    title: str
    status: Status
    expected: str
    found: str
    remedy: str = ""


class FloorRow(Schema):
    """One of the five rows of permanence (docs/floor.md) over all masked parameters."""

    id: Literal["floor", "crossing", "margin", "realised", "scale"]
    condition: str
    satisfied: int
    violated: int
    first_violation: str = ""


class Histogram(Schema):
    """Counts over bins; `edges` has one more entry than `counts`. The last bin also holds what lies beyond it."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class TensorChange(Schema):
    """What changed in one tensor."""

    tensor: str
    masked: int
    total: int


class Permanence(Schema):
    """Survival of the edit under one deployment profile, from the weights alone."""

    profile: str
    masked: int
    parameters: int
    quantized_parameters: int
    changed_share: float
    rows: tuple[FloorRow, ...]
    collateral_codes: int
    whole_bin: int
    median_update_in_bins: float
    bin_width_over_update: float
    update_in_half_bins: Histogram
    margin: Histogram
    codes_before: tuple[int, ...]
    codes_after: tuple[int, ...]
    tensors: tuple[TensorChange, ...]


class Tradeoff(Schema):
    """What updates of a given size could move by half a bin, and what this one moved, under one deployment profile.

    `budgets` are ℓ2 norms, ascending, and `at_most` bounds for each how many parameters of `quantized_parameters`
    satisfy the five rows, whatever the update (docs/tradeoff.md, theorem 2c). This edit has the norm `norm`;
    `surviving` satisfy the rows, of at most `bound`. Spread evenly over all quantized parameters, the same norm moves
    each by `even_move`, which is `even_in_half_bins` of the middle block's narrowest half bin, and at most
    `even_at_most` by half a bin.
    """

    profile: str
    quantized_parameters: int
    budgets: tuple[float, ...]
    at_most: tuple[int, ...]
    norm: float
    surviving: int
    bound: int
    even_move: float
    even_in_half_bins: float
    even_at_most: int


class AxisRow(Schema):
    """One row of a behavioural axis: the four models, and the edited model's difference from the base.

    `unit` is "accuracy" (share of probes) or "perplexity" (per token; differences are relative).
    On the axis "ptq_gap" the differences are gaps, accuracy in NF4 minus accuracy in full precision on the same
    probes: `difference` is the base's gap and `difference_nf4` the edited model's.
    """

    axis: Literal["forgetting", "retention", "ptq_gap"]
    row: str
    unit: Literal["accuracy", "perplexity"]
    base: Estimate
    base_nf4: Estimate
    edited: Estimate
    edited_nf4: Estimate
    difference: Estimate
    difference_nf4: Estimate
    rule: str
    status: Status


class CadRow(Schema):
    """CAD of one model against the base, with its companions (docs/cad.md)."""

    label: str
    role: Literal["edited", "control", "retain", "retain control"]
    precision: Literal["full", "nf4"]
    from_layer: int | None = None
    cad: Estimate
    rho: Estimate
    mass: float
    relative_l1: float


class DepthPoint(Schema):
    """CAD with the reference read-out and the reference layers from `from_layer` on.

    `edited_low` and `edited_high` are the 95 % interval of `edited`; results of older verifiers lack them.
    """

    from_layer: int
    edited: float
    edited_low: float | None = None
    edited_high: float | None = None
    edited_nf4: float | None = None
    control_nf4: float | None = None


class Erasure(Schema):
    """Structural erasure: what CAD says, and what it is compared with.

    `rule` is the verdict rule in one sentence, with the policy's thresholds and the highest control as measured; older
    results have none. `map` is base and edited model as drawn.
    """

    pairs: int
    retain_pairs: int
    edges: int
    circuit_edges: int
    points: int
    split_half_floor: float
    completeness_residual: float
    layers: int
    late_from: int
    rows: tuple[CadRow, ...]
    depth: tuple[DepthPoint, ...]
    rule: str = ""
    map: CircuitMap | None = None


class Trust(Schema):
    """Who signed, and what the base digest rests on. `identity` is whom a certificate names, where one was trusted."""

    key_fingerprint: Sha256 | None
    identity: str | None = None
    signature: Literal["valid", "not checked", "invalid"]
    base_digest: BaseTrust


class Provenance(Schema):
    """What the manifest says of the edit (claims, shown as such).

    `forget_sha256` and `retain_sha256` are its commitments to the two sets; results of older verifiers lack them.
    """

    engine: str
    created: str
    method: str
    settings: dict[str, str]
    forget_lines: int
    retain_lines: int
    circuit_edges: int
    circuit_edges_total: int
    circuit_faithfulness: float
    base_files: tuple[FileDigest, ...]
    forget_sha256: Sha256 | None = None
    retain_sha256: Sha256 | None = None


class ProbesUsed(Schema):
    """The probes behind the measurements: whose they are, and their files."""

    origin: Literal["producer", "auditor"]
    files: tuple[FileDigest, ...]


class Deployed(Schema):
    """The deployed file that was compared with the certified model: how it is quantized, its files, what differs.

    `dtype` is what its unquantized tensors are cast to, `compute_dtype` what a loader computes in. Of `differing`, the
    first tensors are named, and `differing_total` counts them all.
    """

    profile: str
    dtype: str
    compute_dtype: str
    quantized: int
    unquantized: int
    differing: tuple[str, ...]
    differing_total: int
    files: tuple[FileDigest, ...]


class Timing(Schema):
    """When the verifier ran and for how long, in seconds."""

    started: str
    seconds: float


class Result(Schema):
    """The verifier's whole answer. `headline` is one sentence; `rests_on` names the set of checks behind it."""

    schema_: Literal["urn:mansu:result/v1"] = "urn:mansu:result/v1"
    verifier: str
    verdict: Verdict
    exit_code: int
    headline: str
    rests_on: str
    level: Level
    policy: Policy
    policy_sha256: Sha256
    policy_source: str = "not recorded"
    pre_registration: PreRegistration = "not established"
    probes: ProbesUsed | None = None
    manifest_sha256: Sha256 | None
    files: tuple[FileDigest, ...]
    trust: Trust
    provenance: Provenance | None
    checks: tuple[CheckResult, ...]
    permanence: tuple[Permanence, ...] = ()
    tradeoff: Tradeoff | None = None
    axes: tuple[AxisRow, ...] = ()
    erasure: Erasure | None = None
    deployed: Deployed | None = None
    limitations: tuple[str, ...]
    notes: tuple[str, ...] = ()
    repeat: str
    timing: Timing

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS; UNDECIDED is no pass."""
        return self.verdict == "PASS"
