"""What text and Markdown say of an audit, and how they write its numbers."""

from collections.abc import Iterator

from reports import wording
from verify.contract.audit import Audit, BehaviourRow, Survival, TensorAudit
from verify.contract.schema import Estimate

_NONE = "-"


def facts(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield what was compared, and as which deployment, label and text."""
    yield "Base", audit.base
    edited = audit.edited
    if audit.adapter is not None:
        ranks, scalings = (_span(*pair) for pair in (audit.adapter.ranks, audit.adapter.scalings))
        edited += f", LoRA over {audit.adapter.layers} layers (rank {ranks}, scaling {scalings})"
    yield "Edited", edited
    deployed = audit.deployment
    casts = " and ".join(dict.fromkeys((deployed.cast_base, deployed.cast_edited)))
    cast = "weights as stored" if casts == "none" else f"weights in {casts}"
    skip = (
        "" if deployed.skip_modules is None else f"; the folder skips {', '.join(deployed.skip_modules) or 'nothing'}"
    )
    yield "Deployment", f"{deployed.architecture}, NF4 in blocks of {deployed.block_size}, {cast}{skip}"


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def update_figures(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield what the whole update comes to, label and value."""
    total, nf4 = audit.total, audit.total.nf4
    yield "parameters", wording.count(total.parameters)
    yield "changed", f"{wording.count(total.changed)} ({share(total.changed, total.parameters)})"
    yield (
        "in quantized tensors",
        f"{wording.count(total.quantized_changed)} of {wording.count(total.quantized_parameters)}",
    )
    others = f"{wording.count(total.other_changed)} of {wording.count(total.other_parameters)}"
    yield "in tensors NF4 leaves alone", f"{others}, in {total.other_changed_tensors} of {total.other_tensors} tensors"
    yield "norm of the update", f"{total.norm:.4g}"
    if total.median_update is not None:
        yield "median |update|", f"{total.median_update:.3g}"
    if nf4.bin_over_update is None:
        return
    yield "bin width / median update", _times(nf4.bin_over_update)
    if total.tensor_range is not None:
        low, high = total.tensor_range
        yield "  tensor by tensor", f"{_times(low)} to {_times(high)}"
    changed = total.quantized_changed
    for label, count in (
        ("below half a bin", nf4.below_half_bin),
        ("a whole bin or more", nf4.whole_bin),
        ("crossed: another code", nf4.crossed),
        ("undone: the same code", changed - nf4.crossed),
        ("  of these with the very same value", nf4.identical),
    ):
        yield label, f"{wording.count(count)} ({share(count, changed)})"
    yield "collateral: unchanged values, other code", wording.count(nf4.collateral)
    if nf4.energy is not None and nf4.realised is not None:
        yield "norm after NF4 / norm before", f"{nf4.energy:.3g}"
        yield "  of it in the update's direction", f"{nf4.realised:.3g}"


def filled_bins(nf4: Survival) -> Iterator[tuple[str, int]]:
    """Yield the bins of the histogram, from the first to the last that holds anything."""
    edges, counts = nf4.half_bins.edges, nf4.half_bins.counts
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return
    line = edges.index(1.0)  # half a bin is always on the picture
    for place in range(min(filled[0], line - 1), max(filled[-1], line) + 1):
        low = edges[place]
        label = f"from {_power(low)}" if low else f"below {_power(edges[1])}"
        yield label, counts[place]


def _power(edge: float) -> str:
    return f"{edge:g}" if edge >= 1 else f"1/{1 / edge:g}"


def largest_first(audit: Audit) -> list[TensorAudit]:
    """Return the tensors, those with the largest updates first."""
    return sorted(audit.tensors, key=lambda row: row.norm, reverse=True)


def tensor_cells(row: TensorAudit) -> tuple[str, ...]:
    """Return what is said of a tensor; of one that NF4 leaves alone, that its update stays."""
    changed = _compact(row.changed)
    nf4 = row.nf4
    if nf4 is None or nf4.bin_over_update is None:
        return changed, _NONE, _NONE, _NONE, _NONE, "stays" if nf4 is None else _NONE
    below, crossed = (share(count, row.changed) for count in (nf4.below_half_bin, nf4.crossed))
    undone = share(row.changed - nf4.crossed, row.changed)
    return changed, _times(nf4.bin_over_update), below, crossed, _compact(nf4.collateral), undone


def _compact(number: int) -> str:
    """Return a count in at most ten characters."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 10 * size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio < 1000 else f"{ratio:.0f}x" if ratio < 1e6 else f"{ratio:.0e}x"


def share(count: int, total: int) -> str:
    """Return a share in percent, never rounded to all or nothing where it is neither."""
    if not total:
        return _NONE
    text = f"{100 * count / total:.1f}%"
    if text == "100.0%" and count < total:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and count else text


def four_models(row: BehaviourRow) -> tuple[Estimate, ...]:
    """Return a row's estimates of the base and the edited model, each before and after NF4."""
    return row.base, row.base_nf4, row.edited, row.edited_nf4


def model_value(row: BehaviourRow, estimate: Estimate) -> str:
    """Return an estimate in its row's unit."""
    return f"{estimate.value:.3f}" if row.unit == "accuracy" else f"{estimate.value:.4g}"


def interval_ends(row: BehaviourRow, estimate: Estimate) -> str:
    """Return both ends of an estimate's interval in its row's unit."""
    form = ".2f" if row.unit == "accuracy" else ".4g"
    return f"{estimate.low:{form}}-{estimate.high:{form}}"


def difference_interval(row: BehaviourRow, estimate: Estimate) -> str:
    """Return a difference with its interval: of accuracy, or of perplexity in percent."""
    form = "+.3f" if row.unit == "accuracy" else "+.1%"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def plain_interval(estimate: Estimate) -> str:
    """Return an estimate of CAD or ρ with its interval."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
