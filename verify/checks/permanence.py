"""Permanence (MV2xx): does every masked parameter survive NF4? From the weights alone; no model is run.

The five rows of DESIGN section 3 hold for every masked parameter, or the certificate is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.artefact import shown
from verify.behaviour.modules import nf4_linears
from verify.checks.catalog import decided, failed, passed
from verify.checks.evidence import Certificate, abbreviated
from verify.contract.manifest import Profile
from verify.contract.policy import Policy
from verify.contract.result import CheckResult, FloorRow, Histogram, Permanence, TensorChange
from verify.nf4 import Survival, survival
from verify.nf4.stream import Geometry
from verify.nf4.survival import ROW_CONDITIONS, ROW_IDS

ROW_CHECKS = {"floor": "MV203", "crossing": "MV204", "margin": "MV205", "realised": "MV206", "scale": "MV207"}

_UPDATE_EDGES = tuple(step / 2 for step in range(17))
_MARGIN_EDGES = tuple(step / 100 for step in range(13))
_SMALLEST = 1e-9
"""Updates below this many bins count as this many, so that every ratio is finite."""

_REMEDY = "reject the certificate: 4-bit quantization would undo or alter part of the edit"

Progress = Callable[[int], None]
"""Called with the number of tensors just finished."""


@dataclass(frozen=True, eq=False)
class Survivals:
    """What the five rows say, by tensor name, and how many values NF4 quantizes in the whole model."""

    tensors: Mapping[str, Survival]
    quantized_parameters: int

    @property
    def masked(self) -> int:
        """Number of masked values in weights that NF4 quantizes."""
        return sum(entry.indices.numel() for entry in self.tensors.values())

    def joined(self, get: Callable[[Survival], Tensor]) -> Tensor:
        """Return one column over all tensors, `[masked]`."""
        columns = [get(entry) for entry in self.tensors.values()]
        return torch.cat(columns) if columns else torch.zeros(0)


def examine(
    certificate: Certificate, policy: Policy, *, progress: Progress
) -> tuple[tuple[CheckResult, ...], tuple[Permanence, ...]]:
    """Run every check of permanence. The profiles share their codes (theorem T7), so the rows are computed once.

    Raises ArtefactError MV201 through the quantizer for a base value that is not finite.
    """
    finite = all_finite(certificate)
    if finite.status == "fail":
        return (finite,), ()
    linears = {f"{name}.weight" for name in nf4_linears(certificate.outline)}
    masked = certificate.ledger.entries
    found = {}
    for name in sorted(masked.keys() & linears):
        found[name] = survival(
            certificate.base(name), certificate.edited(name), masked[name].indices, margin=policy.margin
        )
        progress(1)
    quantized = sum(view.count for name, view in certificate.weights.tensors().items() if name in linears)
    survivals = Survivals(found, quantized)
    changed = certificate.ledger.masked / certificate.parameters
    checks = (
        finite,
        only_quantized(masked.keys() - linears, certificate.ledger.masked),
        *(floor_check(survivals, row) for row in ROW_IDS),
        no_collateral(survivals),
        sparse(certificate.ledger.masked, certificate.parameters, policy),
        enough_masked(survivals.masked, policy),
    )
    profiles = certificate.statement.predicate.profiles
    return checks, tuple(summary(profile, survivals, certificate, changed) for profile in profiles)


def geometry_of(profile: Profile) -> Geometry:
    """Return how NF4 sees a weight under a profile."""
    return Geometry(profile.block_size, profile.double_quant, profile.cast)


def all_finite(certificate: Certificate) -> CheckResult:
    """MV201: no NaN and no infinity in any weight."""
    expected = "finite values only"
    for name in certificate.names():
        finite = torch.isfinite(certificate.edited(name))
        if not bool(finite.all()):
            index = int((~finite.reshape(-1)).nonzero()[0, 0])
            found = f"tensor {shown(name)} is not finite at flat index {index}"
            return failed("MV201", expected, found, "reject the model: no quantizer defines a code for such a value")
    return passed("MV201", expected, f"{certificate.parameters:,} finite values")


def only_quantized(others: set[str], masked: int) -> CheckResult:
    """MV202: every masked tensor is the weight of a linear layer that NF4 quantizes; `others` are not."""
    found = f"masked but never quantized: {abbreviated(sorted(others))}" if others else f"all {masked:,} masked values"
    expected = "weights of linear layers; no norm, bias, embedding or output head"
    remedy = "reject the certificate: such a change is no evidence of surviving quantization"
    return decided("MV202", expected, found, remedy, holds=not others)


def floor_check(survivals: Survivals, row: str) -> CheckResult:
    """MV203 to MV207: one row of permanence over every masked value."""
    rows = survivals.joined(lambda entry: entry.rows[row])
    violated = int((~rows.bool()).sum())
    expected = f"all {survivals.masked:,} masked values: {ROW_CONDITIONS[row]}"
    found = f"{survivals.masked - violated:,} of {survivals.masked:,}"
    if violated:
        found += f"; first: {_first_violation(survivals, row)}"
    return decided(ROW_CHECKS[row], expected, found, _REMEDY, holds=not violated)


def no_collateral(survivals: Survivals) -> CheckResult:
    """MV208: no value outside the mask has another code after the edit."""
    hit = {name: entry.collateral for name, entry in survivals.tensors.items() if entry.collateral}
    count = sum(hit.values())
    found = f"{count:,} codes changed outside the mask, in {abbreviated(list(hit))}" if hit else "none"
    return decided("MV208", "no code outside the mask changed", found, _REMEDY, holds=not hit)


def sparse(masked: int, parameters: int, policy: Policy) -> CheckResult:
    """MV209: the share of parameters changed is at most the policy's."""
    share = masked / parameters
    expected = f"at most {policy.maximum_changed:.3%} of the parameters"
    found = f"{masked:,} of {parameters:,} ({share:.4%})"
    remedy = "reject the certificate, or judge it by a policy that admits a denser edit"
    return decided("MV209", expected, found, remedy, holds=share <= policy.maximum_changed)


def enough_masked(masked: int, policy: Policy) -> CheckResult:
    """MV210: at least the policy's number of values is masked where NF4 quantizes."""
    expected = f"at least {policy.minimum_masked:,} masked values in quantized weights"
    remedy = "reject the certificate: nothing was edited that quantization could undo"
    return decided("MV210", expected, f"{masked:,}", remedy, holds=masked >= policy.minimum_masked)


def summary(profile: Profile, survivals: Survivals, certificate: Certificate, changed: float) -> Permanence:
    """Return what the report shows of one profile."""
    in_half_bins = survivals.joined(lambda entry: entry.half_bins)
    median = max(float(in_half_bins.median()) / 2, _SMALLEST) if survivals.masked else _SMALLEST
    views = certificate.weights.tensors()
    scales = "8-bit (double quantization)" if profile.double_quant else "float32"
    return Permanence(
        profile=f"NF4, blocks of {profile.block_size}, scales in {scales}",
        masked=certificate.ledger.masked,
        parameters=certificate.parameters,
        quantized_parameters=survivals.quantized_parameters,
        changed_share=changed,
        rows=tuple(_floor_row(survivals, row) for row in ROW_IDS),
        collateral_codes=sum(entry.collateral for entry in survivals.tensors.values()),
        whole_bin=int((in_half_bins >= 2).sum()),
        median_update_in_bins=min(median, 1 / _SMALLEST),
        bin_width_over_update=1 / median,
        update_in_half_bins=_histogram(in_half_bins, _UPDATE_EDGES),
        margin=_histogram(survivals.joined(lambda entry: entry.margin), _MARGIN_EDGES),
        codes_before=_counts(survivals.joined(lambda entry: entry.codes_before)),
        codes_after=_counts(survivals.joined(lambda entry: entry.codes_after)),
        tensors=tuple(
            TensorChange(tensor=name, masked=entry.indices.numel(), total=views[name].count)
            for name, entry in sorted(certificate.ledger.entries.items())
        ),
    )


def _floor_row(survivals: Survivals, row: str) -> FloorRow:
    violated = int((~survivals.joined(lambda entry: entry.rows[row]).bool()).sum())
    return FloorRow(
        id=row,  # type: ignore[arg-type]  # ROW_IDS are the literal's values
        condition=ROW_CONDITIONS[row],
        satisfied=survivals.masked - violated,
        violated=violated,
        first_violation=_first_violation(survivals, row) if violated else "",
    )


def _first_violation(survivals: Survivals, row: str) -> str:
    for name, entry in survivals.tensors.items():
        at = (~entry.rows[row]).nonzero()
        if at.numel():
            i = int(at[0, 0])
            moved = f"update {entry.half_bins[i]:.3g} half bins"
            codes = f"code {int(entry.codes_before[i])} to {int(entry.codes_after[i])}, margin {entry.margin[i]:.3g}"
            return f"{shown(name)} at flat index {int(entry.indices[i])}: {moved}, {codes}"
    return ""


def _histogram(values: Tensor, edges: tuple[float, ...]) -> Histogram:
    """Count values into bins; what lies below the first or beyond the last edge counts in the bin beside it."""
    inner = torch.tensor(edges[1:-1], dtype=torch.float64)
    bins = torch.bucketize(values.double(), inner, right=True)
    return Histogram(edges=edges, counts=tuple(torch.bincount(bins, minlength=len(edges) - 1).tolist()))


def _counts(codes: Tensor) -> tuple[int, ...]:
    return tuple(torch.bincount(codes.long(), minlength=16).tolist())
