"""What `mansu calibrate` writes: CAD of each control on one model, and the rule that follows, as versioned JSON."""

from typing import Literal

from verify.contract.policy import Policy
from verify.contract.result import CadRow, CheckResult
from verify.contract.schema import Estimate, FileDigest, Schema, Sha256
from verify.errors import ExitCode

CALIBRATION_SCHEMA = "urn:mansu:calibration/v1"

Role = Literal["control", "muted", "edited"]
"""Erased nothing; fell silent in its last modules only; or is to be judged."""


class Reading(Schema):
    """One model compared with the base on the same pairs and edges.

    `from_layer` is the first layer lent by the base, with its read-out; the number of layers: the read-out alone; null:
    nothing. All intervals are those of the paired bootstrap.
    """

    from_layer: int | None
    cad: Estimate
    rho: Estimate
    mass: Estimate
    relative_l1: float


class Row(Schema):
    """One model: what it still answers, and its readings.

    `changed`: values that differ from the base's. `forget`, `retain`: accuracy on held-out probes; `retain` is null
    where the set holds out no facts. `whole`, `read_out` and `late` are over the reference circuit, with more and more
    lent; `random_edges`, with nothing lent, over as many edges drawn at random.
    """

    label: str
    role: Role
    precision: Literal["full", "nf4"]
    changed: int
    forget: Estimate
    retain: Estimate | None
    whole: Reading
    read_out: Reading
    late: Reading
    random_edges: Reading

    def cad_row(self, reading: Reading) -> CadRow:
        """Return a reading in the verifier's form; what was muted counts as a control there."""
        return CadRow(
            label=self.label,
            role="edited" if self.role == "edited" else "control",
            precision=self.precision,
            from_layer=reading.from_layer,
            cad=reading.cad,
            rho=reading.rho,
            mass=reading.mass.value,
            relative_l1=reading.relative_l1,
        )


class Calibration(Schema):
    """The whole calibration.

    `rule` is the verdict rule in one sentence; `undecided` says why it cannot be relied on here, and is empty where it
    can. `checks` are the verifier's on the edited model, if one was given. `settings` holds the hyper-parameters.
    """

    schema_: Literal["urn:mansu:calibration/v1"] = "urn:mansu:calibration/v1"
    engine: str
    base: tuple[FileDigest, ...]
    edited: tuple[FileDigest, ...] | None
    forget_sha256: Sha256
    retain_sha256: Sha256
    policy: Policy
    policy_sha256: Sha256
    settings: dict[str, str]
    pairs: int
    edges: int
    circuit_edges: int
    points: int
    layers: int
    late_from: int
    split_half_floor: float
    completeness_residual: float
    base_forget: Estimate
    base_retain: Estimate | None
    rows: tuple[Row, ...]
    rule: str
    undecided: tuple[str, ...]
    checks: tuple[CheckResult, ...]

    def exit_code(self) -> ExitCode:
        """Return 3 where the rule cannot be relied on, else 1 where the edited model does not meet it, else 0."""
        if self.undecided:
            return ExitCode.UNDECIDED
        return ExitCode.FAIL if any(check.status == "fail" for check in self.checks) else ExitCode.PASS
