"""An audit as text for a terminal, as Markdown and as JSON: one sentence first, then tables."""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len, set_cell_size

from reports import wording
from reports.markdown import escaped
from reports.plain import harmless, neutral
from reports.text import wrap
from verify.contract.audit import Audit, BehaviourRow, ErasureAudit, Survival, TensorAudit
from verify.contract.schema import Estimate

MOST_TENSORS = 20
"""Tensors that text lists, those with the largest updates; JSON and Markdown list all that changed."""
_BAR = 30
_NONE = "-"


def render_audit_json(audit: Audit) -> str:
    """Return the audit as indented ASCII JSON with a final newline; `Audit.model_validate_json` reads it back."""
    return harmless(audit.model_dump_json(indent=2, by_alias=True, ensure_ascii=True)) + "\n"


def render_audit(audit: Audit, *, width: int = 80, every: bool = False) -> str:
    """Return the audit as lines of at most `width` columns (80 or more) with a final newline.

    `every` lists all tensors that changed, not only those with the largest updates.
    """
    lines = wrap(audit.headline, width)
    lines += ["", *(line for label, text in _facts(audit) for line in _fact(label, text, width))]
    sections = (
        ("The update, and what NF4 leaves of it", _summary(audit, width)),
        ("Update in half bins of NF4 (log scale)", _histogram(audit.total.nf4)),
        ("By tensor", _tensors(audit, width, every=every)),
        ("On the sets given, with 95 % intervals", _behaviour(audit, width)),
        ("Structural erasure (CAD)", _erasure(audit.erasure, width)),
        ("Could not be decided", _bullets(audit.undecided, width)),
        ("Notes", _bullets(audit.notes, width)),
    )
    for title, body in sections:
        found = list(body)
        if found:
            lines += ["", title, "-" * len(title), *found]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_audit_markdown(audit: Audit) -> str:
    """Return the audit as GitHub-flavoured Markdown with a final newline; what comes from a model is escaped."""
    parts = ["## NF4 audit", f"**{escaped(audit.headline)}**"]
    parts.append("\n".join(f"- {label}: {escaped(text)}" for label, text in _facts(audit)))
    total = audit.total
    parts += [
        "### The update, and what NF4 leaves of it",
        _table(("", "value"), ((label.strip(), text) for label, text in _figures(audit))),
    ]
    if total.quantized_changed:
        rows = (
            (label, wording.count(count), _share(count, total.quantized_changed)) for label, count in _bins(total.nf4)
        )
        parts += ["### Update in half bins of NF4", _table(("half bins", "values", "share"), rows)]
    changed = [row for row in _largest(audit) if row.changed]
    if changed:
        head = ("tensor", "changed", "bin / update", "below half", "crossed", "collateral", "undone")
        parts += ["### By tensor", _table(head, ((row.name, *_cells(row)) for row in changed))]
    if audit.behaviour:
        head = ("axis", "row", "base", "base NF4", "edited", "edited NF4", "NF4 minus full, edited")
        rows_ = ((row.axis, f"{row.row} ({row.unit})", *_four(row), _interval(row, row.gap)) for row in audit.behaviour)
        parts += ["### On the sets given", _table(head, rows_)]
    if audit.erasure is not None:
        cad = ((wording.cad_label(r), _plain(r.cad), _plain(r.rho), str(r.cad.n)) for r in audit.erasure.rows)
        parts += ["### Structural erasure (CAD)", _table(("", "CAD", "rho", "pairs"), cad)]
    for title, items in (("Could not be decided", audit.undecided), ("Notes", audit.notes)):
        if items:
            parts += [f"### {title}", "\n".join(f"- {escaped(item)}" for item in items)]
    return "\n\n".join(parts) + "\n"


def _facts(audit: Audit) -> Iterator[tuple[str, str]]:
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


def _figures(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield what the whole update comes to, label and value."""
    total, nf4 = audit.total, audit.total.nf4
    yield "parameters", wording.count(total.parameters)
    yield "changed", f"{wording.count(total.changed)} ({_share(total.changed, total.parameters)})"
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
        yield label, f"{wording.count(count)} ({_share(count, changed)})"
    yield "collateral: unchanged values, other code", wording.count(nf4.collateral)
    if nf4.energy is not None and nf4.realised is not None:
        yield "norm after NF4 / norm before", f"{nf4.energy:.3g}"
        yield "  of it in the update's direction", f"{nf4.realised:.3g}"


def _summary(audit: Audit, width: int) -> Iterator[str]:
    for label, text in _figures(audit):
        yield from _fact(label, text, width, column=42)


def _fact(label: str, text: str, width: int, *, column: int = 12) -> list[str]:
    return wrap(text, width, first=f"{label:<{column}}", rest=" " * column)


def _bins(nf4: Survival) -> Iterator[tuple[str, int]]:
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


def _histogram(nf4: Survival) -> Iterator[str]:
    rows = list(_bins(nf4))
    total, most = sum(count for _, count in rows), max((count for _, count in rows), default=0)
    for label, count in rows:
        if label == "from 1":
            yield "-" * 14 + " 1: half a bin " + "-" * 30
        bar = "#" * (round(_BAR * count / most) or (1 if count else 0))
        yield f"{label:<14}{_share(count, total):>8}  {wording.count(count):>15}  {bar}"


def _largest(audit: Audit) -> list[TensorAudit]:
    return sorted(audit.tensors, key=lambda row: row.norm, reverse=True)


def _tensors(audit: Audit, width: int, *, every: bool) -> Iterator[str]:
    """Yield a row for each tensor that changed, those with the largest updates first."""
    changed = [row for row in _largest(audit) if row.changed]
    if not changed:
        return
    shown = changed if every else changed[:MOST_TENSORS]
    room = width - 52
    yield f"{'':<{room}}{'changed':>11}{'bin/upd':>9}{'<half':>8}{'crossed':>8}{'collat.':>8}{'undone':>8}"
    for row in shown:
        cells = _cells(row)
        name = _cut(neutral(row.name), room - 1)
        columns = (11, 9, 8, 8, 8, 8)
        padding = " " * (room - cell_len(name))
        yield name + padding + "".join(f"{cell:>{size}}" for cell, size in zip(cells, columns, strict=True))
    if len(shown) < len(changed):
        yield from wrap(
            f"and {len(changed) - len(shown)} more with smaller updates; -v or --format json lists all", width
        )
    unchanged = len(audit.tensors) - len(changed)
    if unchanged:
        yield f"tensors that did not change: {unchanged}"


def _cells(row: TensorAudit) -> tuple[str, ...]:
    """Return what is said of a tensor; of one that NF4 leaves alone, that its update stays."""
    changed = _compact(row.changed)
    nf4 = row.nf4
    if nf4 is None or nf4.bin_over_update is None:
        return changed, _NONE, _NONE, _NONE, _NONE, "stays" if nf4 is None else _NONE
    below, crossed = (_share(count, row.changed) for count in (nf4.below_half_bin, nf4.crossed))
    undone = _share(row.changed - nf4.crossed, row.changed)
    return changed, _times(nf4.bin_over_update), below, crossed, _compact(nf4.collateral), undone


def _cut(text: str, width: int) -> str:
    """Return a name of at most `width` columns; of a long one, the end, which tells tensors apart."""
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width).rstrip()


def _compact(number: int) -> str:
    """Return a count in at most ten characters."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 10 * size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio < 1000 else f"{ratio:.0f}x" if ratio < 1e6 else f"{ratio:.0e}x"


def _share(count: int, total: int) -> str:
    """Return a share in percent, never rounded to all or nothing where it is neither."""
    if not total:
        return _NONE
    text = f"{100 * count / total:.1f}%"
    if text == "100.0%" and count < total:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and count else text


def _behaviour(audit: Audit, width: int) -> Iterator[str]:
    if not audit.behaviour:
        return
    column = (width - 22) // 4
    heads = ("base", "base NF4", "edited", "edited NF4")
    yield f"{'':<22}" + "".join(f"{head:<{column}}" for head in heads)
    for row in audit.behaviour:
        chance = "" if row.chance is None else f", guessing gives {row.chance:.2f}"
        yield from wrap(f"{row.axis}: {row.row}, {row.unit}, n = {row.base.n}{chance}", width, rest="  ")
        yield f"{'':<22}" + "".join(f"{_value(row, one):<{column}}" for one in _models(row))
        yield f"{'  interval':<22}" + "".join(f"{_ends(row, one):<{column}}" for one in _models(row))
        for label, estimate in (
            ("edited minus base", row.difference),
            ("  the same, both in NF4", row.difference_nf4),
            ("NF4 minus full, base", row.gap_base),
            ("NF4 minus full, edited (PTQ gap)", row.gap),
        ):
            yield from wrap(_interval(row, estimate), width, first=f"  {label:<34}", rest=" " * 36)


def _models(row: BehaviourRow) -> tuple[Estimate, ...]:
    return row.base, row.base_nf4, row.edited, row.edited_nf4


def _four(row: BehaviourRow) -> tuple[str, ...]:
    return tuple(f"{_value(row, one)} ({_ends(row, one)})" for one in _models(row))


def _value(row: BehaviourRow, estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" if row.unit == "accuracy" else f"{estimate.value:.4g}"


def _ends(row: BehaviourRow, estimate: Estimate) -> str:
    form = ".2f" if row.unit == "accuracy" else ".4g"
    return f"{estimate.low:{form}}-{estimate.high:{form}}"


def _interval(row: BehaviourRow, estimate: Estimate) -> str:
    form = "+.3f" if row.unit == "accuracy" else "+.1%"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _erasure(erasure: ErasureAudit | None, width: int) -> Iterator[str]:
    if erasure is None:
        return
    yield from wrap(
        f"{erasure.pairs} forget pairs, {erasure.retain_pairs} retain pairs; circuit of {erasure.circuit_edges:,} of "
        f"{erasure.edges:,} edges; two halves of the base's own pairs differ by {erasure.split_half_floor:.3f}",
        width,
    )
    for row in erasure.rows:
        yield from wrap(wording.cad_label(row), width, first="  ", rest="    ")
        yield from wrap(
            f"CAD {_plain(row.cad)}, rho {_plain(row.rho)}, n {row.cad.n}", width, first="    ", rest="      "
        )


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _bullets(items: Iterable[str], width: int) -> list[str]:
    return [line for item in items for line in wrap(item, width, first="- ", rest="  ")]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows)])
