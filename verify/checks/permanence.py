"""Permanence (MV2xx): does every masked parameter survive NF4? From the weights alone; no model is run.

The five rows of docs/floor.md hold for every masked parameter under every deployment profile claimed, or the
certificate is refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verify.artefact import shown
from verify.artefact.tensors import SIZES
from verify.checks.architecture import Architecture
from verify.checks.catalog import decided, failed, passed
from verify.checks.evidence import MODEL, Evidence, abbreviated
from verify.checks.examiners import Plan
from verify.contract.manifest import Profile
from verify.contract.policy import Policy
from verify.contract.result import CheckResult, FloorRow, Histogram, Permanence, TensorChange
from verify.nf4.rows import FINE, MARGIN_STEP, ROW_CONDITIONS, ROW_IDS, Geometry, Tally
from verify.nf4.values import values_of

ROW_CHECKS = {"floor": "MV203", "crossing": "MV204", "margin": "MV205", "realised": "MV206", "scale": "MV207"}

_SHOWN_PER_HALF_BIN = 2
_SMALLEST = 1e-9
"""Updates below this many bins count as this many, so that every ratio is finite."""
_REMEDY = "reject the certificate: 4-bit quantization would undo or alter part of the edit"
_CASTS = {"none": "", "bf16": ", cast to bfloat16", "fp16": ", cast to float16"}


@dataclass(frozen=True, eq=False)
class Survival:
    """What the five rows say under one profile: tallies by tensor name, and which masked tensors it leaves as they are.

    `files` names the file of each; `quantized` counts the values that NF4 quantizes in the whole model.
    """

    profile: Profile
    tensors: Mapping[str, Tally]
    files: Mapping[str, str]
    unquantized: tuple[str, ...]
    quantized: int

    @property
    def masked(self) -> int:
        """Number of masked values in weights that NF4 quantizes."""
        return sum(tally.masked for tally in self.tensors.values())

    @property
    def collateral(self) -> int:
        """Number of values outside the mask whose code changed."""
        return sum(tally.collateral for tally in self.tensors.values())

    def violated(self, row: str) -> int:
        """Return how many masked values miss a row."""
        return sum(tally.masked - tally.satisfied[row] for tally in self.tensors.values())


def geometry_of(profile: Profile) -> Geometry:
    """Return how NF4 sees a weight under a profile."""
    return Geometry(profile.block_size, profile.double_quant, profile.cast)


def named(profile: Profile) -> str:
    """Return a profile in words."""
    scales = "8-bit (double quantization)" if profile.double_quant else "float32"
    skip = "" if profile.skip is None else f", not in {', '.join(profile.skip) or 'any module'}"
    return f"NF4, blocks of {profile.block_size}, scales in {scales}{_CASTS[profile.cast]}{skip}"


def plan(structure: Architecture, profiles: Iterable[Profile], *, margin: float, curve: Profile | None = None) -> Plan:
    """Return what the pass over the weights must look at, for the profiles that a manifest claims.

    `curve` is the one of them for which updates are bounded (`verify.checks.tradeoff`), if there is one.
    """
    geometries: dict[str, dict[Geometry, None]] = {}
    for profile in profiles:
        for entry in structure.quantized[profile.skip]:
            geometries.setdefault(entry.name, {})[geometry_of(profile)] = None
    return Plan(
        geometries={name: tuple(wanted) for name, wanted in geometries.items()},
        transposed=structure.transposed(),
        compared=frozenset(structure.tied or ()),
        margin=margin,
        scaled={} if curve is None else {entry.name: curve.block_size for entry in structure.quantized[curve.skip]},
    )


def examine(evidence: Evidence, policy: Policy) -> tuple[tuple[CheckResult, ...], tuple[Permanence, ...]]:
    """Return every check of permanence, and what the report shows of each profile."""
    finite = all_finite(evidence)
    if finite.status == "fail":
        return (finite,), ()
    survivals = [survival(evidence, profile) for profile in evidence.statement.predicate.profiles]
    checks = (
        finite,
        only_quantized(survivals, evidence.masked),
        *(floor_check(survivals, row) for row in ROW_IDS),
        no_collateral(survivals),
        sparse(evidence.masked, evidence.parameters, policy),
        enough_masked(min(entry.masked for entry in survivals), policy),
        usual_deployment(evidence.statement.predicate.profiles, evidence.stored, evidence.architecture.dtypes, policy),
    )
    return checks, tuple(summary(entry, evidence) for entry in survivals)


def survival(evidence: Evidence, profile: Profile) -> Survival:
    """Gather what the pass over the weights found under one profile."""
    structure, views = evidence.architecture, evidence.weights.tensors()
    quantized = {entry.name for entry in structure.quantized[profile.skip]}
    geometry = geometry_of(profile)
    tallies = {
        name: evidence.scan.tallies[name][geometry]
        for name in sorted(evidence.ledger.keys() & quantized)
        if name in evidence.scan.tallies
    }
    total = sum(view.count for name, view in views.items() if name in quantized)
    files = {name: _file(evidence, name) for name in tallies}
    return Survival(profile, tallies, files, tuple(sorted(evidence.ledger.keys() - quantized)), total)


def all_finite(evidence: Evidence) -> CheckResult:
    """MV201: no NaN and no infinity in any weight, nor in one cast as a profile says, masked or not."""
    expected = "finite values only"
    for name, index in sorted(evidence.scan.not_finite.items()):
        found = f"tensor {shown(name)} of {_file(evidence, name)} is not finite at flat index {index}"
        return failed("MV201", expected, found, "reject the model: no quantizer defines a code for such a value")
    for name, cast in _overflows(evidence):
        found = f"tensor {shown(name)} of {_file(evidence, name)} overflows when it is cast to {cast}"
        return failed("MV201", expected, found, "reject the certificate: a profile that it claims is impossible")
    return passed("MV201", expected, f"{evidence.parameters:,} finite values")


def _file(evidence: Evidence, tensor: str) -> str:
    """Return the weight file that holds a tensor, to be named in a message."""
    return shown(MODEL + evidence.weights.holder(tensor).name)


def _overflows(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield tensor and cast wherever a profile's cast makes a finite weight infinite, in the base or after the edit."""
    names = sorted(evidence.scan.largest)
    largest = np.array([evidence.scan.largest[name] for name in names], f"<u{SIZES[evidence.stored]}")
    for cast in dict.fromkeys(profile.cast for profile in evidence.statement.predicate.profiles):
        infinite = ~np.isfinite(values_of(largest, evidence.stored, cast))
        yield from ((names[at], cast) for at in np.flatnonzero(infinite))
    for name, tallies in sorted(evidence.scan.tallies.items()):
        yield from ((name, geometry.cast) for geometry, tally in tallies.items() if tally.overflow)


def only_quantized(survivals: Sequence[Survival], masked: int) -> CheckResult:
    """MV202: masked values lie only in weights that NF4 quantizes, under every profile."""
    expected = "masked values only in weights that NF4 quantizes"
    hit = next((entry for entry in survivals if entry.unquantized), None)
    if hit is not None:
        found = f"masked values in {abbreviated(list(hit.unquantized))} ({named(hit.profile)})"
        return failed("MV202", expected, found, "reject the certificate: permanence says nothing about such values")
    return passed("MV202", expected, f"all {masked:,}")


def floor_check(survivals: Sequence[Survival], row: str) -> CheckResult:
    """MV203 to MV207: one of the five rows, for every masked value under every profile."""
    expected = f"{ROW_CONDITIONS[row]}: for every masked value"
    for entry in survivals:
        violated = entry.violated(row)
        if violated:
            count = f"{violated:,} of {entry.masked:,} do not ({named(entry.profile)})"
            return failed(ROW_CHECKS[row], expected, f"{count}; first: {first_violation(entry, row)}", _REMEDY)
    found = f"all {survivals[0].masked:,}, under {len(survivals)} deployment profiles"
    return passed(ROW_CHECKS[row], expected, found)


def no_collateral(survivals: Sequence[Survival]) -> CheckResult:
    """MV208: no value outside the mask has another code after the edit."""
    for entry in survivals:
        hit = [name for name, tally in entry.tensors.items() if tally.collateral]
        if hit:
            where = f"in {abbreviated(hit)} ({named(entry.profile)})"
            found = f"{entry.collateral:,} codes changed outside the mask, {where}"
            return failed("MV208", "no code outside the mask changed", found, _REMEDY)
    return passed("MV208", "no code outside the mask changed", "none")


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


def usual_deployment(profiles: Iterable[Profile], stored: str, dtypes: Iterable[str], policy: Policy) -> CheckResult:
    """MV211: of the block size that the policy names, profiles of the weights as stored, and as loaded, with no skip.

    The producer chooses what to claim: without this, a change could be certified for deployments that nobody has.
    `transformers` casts weights to the dtypes that the configuration names, unless it is told otherwise.
    """
    claimed = {entry.cast for entry in profiles if entry.skip is None and entry.block_size == policy.block_size}
    missing = [dtype for dtype in (stored, *sorted(set(dtypes) - {stored})) if not claimed & casts_of(stored, dtype)]
    expected = f"among the profiles, blocks of {policy.block_size} of the weights as stored, nothing skipped"
    expected += "".join(f", and as {dtype}, which config.json names" for dtype in sorted(set(dtypes) - {stored}))
    lacking = " or ".join(f"as {dtype}" for dtype in missing)
    found = (
        f"no such profile with blocks of {policy.block_size} {lacking}" if missing else "claimed, and examined above"
    )
    remedy = "reject the certificate, or judge it by a policy that names the blocks you deploy"
    return decided("MV211", expected, found, remedy, holds=not missing)


def casts_of(stored: str, dtype: str) -> set[str]:
    """Return the casts that give the values which weights, stored in one dtype, have when loaded in another."""
    named = {"BF16": {"bf16"}, "F16": {"fp16"}, "F32": set[str]()}[dtype]
    return named | {"none"} if dtype in (stored, "F32") else named  # every value has its place in float32


def summary(entry: Survival, evidence: Evidence) -> Permanence:
    """Return what the report shows of one profile."""
    tallies = list(entry.tensors.values())
    updates = sum((tally.updates for tally in tallies), np.zeros(1, np.int64))
    median = max(_median(updates) / 2, _SMALLEST)
    views = evidence.weights.tensors()
    return Permanence(
        profile=named(entry.profile),
        masked=evidence.masked,
        parameters=evidence.parameters,
        quantized_parameters=entry.quantized,
        changed_share=evidence.masked / evidence.parameters,
        rows=tuple(_floor_row(entry, row) for row in ROW_IDS),
        collateral_codes=entry.collateral,
        whole_bin=int(updates[2 * FINE :].sum()),
        median_update_in_bins=median,
        bin_width_over_update=1 / median,
        update_in_half_bins=_histogram(updates, FINE // _SHOWN_PER_HALF_BIN, 1 / _SHOWN_PER_HALF_BIN),
        margin=_histogram(sum((tally.margins for tally in tallies), np.zeros(1, np.int64)), 1, MARGIN_STEP),
        codes_before=_total([tally.codes_before for tally in tallies]),
        codes_after=_total([tally.codes_after for tally in tallies]),
        tensors=tuple(
            TensorChange(tensor=name, masked=columns.count, total=views[name].count)
            for name, columns in sorted(evidence.ledger.items())
        ),
    )


def first_violation(entry: Survival, row: str) -> str:
    """Return the first masked value that misses a row, in words."""
    for name, tally in entry.tensors.items():
        if row in tally.violations:
            at = tally.violations[row]
            codes = f"code {at.code_before} to {at.code_after}, margin {at.distance:.3g}"
            place = f"{shown(name)} of {entry.files[name]} at flat index {at.index}"
            return f"{place}: update {at.half_bins:.3g} half bins, {codes}"
    return ""


def _floor_row(entry: Survival, row: str) -> FloorRow:
    violated = entry.violated(row)
    return FloorRow(
        id=row,  # type: ignore[arg-type]  # ROW_IDS are the literal's values
        condition=ROW_CONDITIONS[row],
        satisfied=entry.masked - violated,
        violated=violated,
        first_violation=first_violation(entry, row) if violated else "",
    )


def _median(updates: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> float:
    """Return the median update in half bins, to the resolution of the histogram (the lower end of its bin)."""
    if not updates.sum():
        return 0.0
    return int(np.searchsorted(updates.cumsum(), (updates.sum() + 1) // 2)) / FINE


def _histogram(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", join: int, step: float) -> Histogram:
    """Return a histogram with `join` fine bins in each of its own, `step` wide."""
    bins = counts.size // join
    if bins == 0:
        return Histogram(edges=(0.0, step), counts=(0,))
    joined = counts.reshape(bins, join).sum(axis=1)
    return Histogram(edges=tuple(round(i * step, 6) for i in range(bins + 1)), counts=tuple(joined.tolist()))


def _total(codes: "Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]") -> tuple[int, ...]:
    return tuple(np.sum(codes, axis=0).tolist()) if codes else (0,) * 16
