"""The answer of `mansu-audit`: what changed between two models, and what NF4 leaves of it. There is no verdict.

Renderers show it and compute nothing. Shares are of 1; a number that is undefined (nothing changed) is None.
"""

from typing import Literal

from verify.contract.result import CadRow, Histogram
from verify.contract.schema import Estimate, Schema
from verify.errors import ExitCode

AUDIT_SCHEMA = "urn:mansu:audit/v1"


class Survival(Schema):
    """What NF4 makes of the changed values of one quantized tensor, or of all.

    `bin_over_update` is the median of bin width over |update|. Counts are of changed values: `below_half_bin` are
    smaller than half a bin, `whole_bin` at least a bin; `crossed` have another code, `identical` dequantize to the very
    value that the base's does. `collateral` counts *unchanged* values with another code: their block's absmax moved.
    `undone` is the share of changed values that keep their code, so that nothing of their own update is left: they
    dequantize to the base's value, save for the factor by which their block's absmax moved.
    `energy` is the norm of NF4's difference, over all values of the tensors, in units of the update's norm; `realised`
    is the part of the update that NF4's difference holds in the update's own direction, ⟨Δq, Δ⟩ / ⟨Δ, Δ⟩.
    `half_bins` counts |update| in half bins: the edge at 1 is half a bin.
    """

    bin_over_update: float | None
    below_half_bin: int
    whole_bin: int
    crossed: int
    identical: int
    collateral: int
    undone: float | None
    energy: float | None
    realised: float | None
    half_bins: Histogram


class TensorAudit(Schema):
    """One tensor. `norm` is the update's, `median_update` the median |update| over changed values.

    `nf4` is None for a tensor that stays as it is stored, whose update therefore survives.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    changed: int
    changed_share: float
    norm: float
    median_update: float | None
    nf4: Survival | None


class Total(Schema):
    """All quantized tensors together, and all others. `tensor_range` spans the per-tensor medians of bin over update.

    `median_error` bounds the relative error of every median here: they are read from fine histograms.
    """

    parameters: int
    changed: int
    changed_share: float
    norm: float
    quantized_tensors: int
    quantized_parameters: int
    quantized_changed: int
    quantized_norm: float
    median_update: float | None
    tensor_range: tuple[float, float] | None
    nf4: Survival
    other_tensors: int
    other_changed_tensors: int
    other_parameters: int
    other_changed: int
    other_norm: float
    median_error: float


class AdapterAudit(Schema):
    """The adapter that was merged: how many layers it updates, its ranks and its scalings (least to greatest)."""

    layers: int
    ranks: tuple[int, int]
    scalings: tuple[float, float]


class DeploymentAudit(Schema):
    """The deployment that was assumed: casts are to the dtypes that the configurations name, "none" for as stored."""

    architecture: str
    block_size: int
    cast_base: str
    cast_edited: str
    skip_modules: tuple[str, ...] | None
    double_quant: bool


class BehaviourRow(Schema):
    """One row of questions or of prose on the four models.

    `difference` and `difference_nf4` are the edited model's against the base in the same precision (of prose: relative
    rise of perplexity). `gap_base` and `gap` are NF4 minus full precision, of the base and of the edited model; of
    prose they are relative as well. `chance` is the accuracy of guessing, None for prose.
    """

    axis: Literal["forgetting", "retention"]
    row: str
    unit: Literal["accuracy", "perplexity"]
    chance: float | None
    base: Estimate
    base_nf4: Estimate
    edited: Estimate
    edited_nf4: Estimate
    difference: Estimate
    difference_nf4: Estimate
    gap_base: Estimate
    gap: Estimate


class ErasureAudit(Schema):
    """CAD of the edited model, with the base under NF4 as its control, on the reference circuit of the base."""

    pairs: int
    retain_pairs: int
    circuit_edges: int
    edges: int
    layers: int
    late_from: int
    split_half_floor: float
    completeness_residual: float
    rows: tuple[CadRow, ...]


class Audit(Schema):
    """The whole answer. `headline` is its one sentence; `undecided` says what was asked and could not be decided."""

    schema_: Literal["urn:mansu:audit/v1"] = "urn:mansu:audit/v1"
    headline: str
    base: str
    edited: str
    adapter: AdapterAudit | None
    deployment: DeploymentAudit
    total: Total
    tensors: tuple[TensorAudit, ...]
    behaviour: tuple[BehaviourRow, ...]
    erasure: ErasureAudit | None
    undecided: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 where everything asked was measured, else 3; never a verdict."""
        return int(ExitCode.UNDECIDED if self.undecided else ExitCode.PASS)
