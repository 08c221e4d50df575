"""An audit as Markdown, with every tensor that changed; what comes from a model is escaped."""

from collections.abc import Iterable

from reports import wording
from reports.audit.cells import (
    difference_interval,
    facts,
    filled_bins,
    four_models,
    interval_ends,
    largest_first,
    model_value,
    plain_interval,
    share,
    tensor_cells,
    update_figures,
)
from reports.markdown import escaped
from verify.contract.audit import Audit, BehaviourRow


def render_audit_markdown(audit: Audit) -> str:
    """Return the audit as GitHub-flavoured Markdown with a final newline; what comes from a model is escaped."""
    parts = ["## NF4 audit", f"**{escaped(audit.headline)}**"]
    parts.append("\n".join(f"- {label}: {escaped(text)}" for label, text in facts(audit)))
    total = audit.total
    parts += [
        "### The update, and what NF4 leaves of it",
        _table(("", "value"), ((label.strip(), text) for label, text in update_figures(audit))),
    ]
    if total.quantized_changed:
        rows = (
            (label, wording.count(count), share(count, total.quantized_changed))
            for label, count in filled_bins(total.nf4)
        )
        parts += ["### Update in half bins of NF4", _table(("half bins", "values", "share"), rows)]
    changed = [row for row in largest_first(audit) if row.changed]
    if changed:
        head = ("tensor", "changed", "bin / update", "below half", "crossed", "collateral", "undone")
        parts += ["### By tensor", _table(head, ((row.name, *tensor_cells(row)) for row in changed))]
    if audit.behaviour:
        head = ("axis", "row", "base", "base NF4", "edited", "edited NF4", "NF4 minus full, edited")
        rows_ = (
            (row.axis, f"{row.row} ({row.unit})", *_four(row), difference_interval(row, row.gap))
            for row in audit.behaviour
        )
        parts += ["### On the sets given", _table(head, rows_)]
    if audit.erasure is not None:
        cad = (
            (wording.cad_label(r), plain_interval(r.cad), plain_interval(r.rho), str(r.cad.n))
            for r in audit.erasure.rows
        )
        parts += ["### Structural erasure (CAD)", _table(("", "CAD", "rho", "pairs"), cad)]
    for title, items in (("Could not be decided", audit.undecided), ("Notes", audit.notes)):
        if items:
            parts += [f"### {title}", "\n".join(f"- {escaped(item)}" for item in items)]
    return "\n\n".join(parts) + "\n"


def _four(row: BehaviourRow) -> tuple[str, ...]:
    return tuple(f"{model_value(row, one)} ({interval_ends(row, one)})" for one in four_models(row))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows)])
