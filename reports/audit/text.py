"""An audit as text for a terminal: one sentence first, then tables of at most the width given."""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len, set_cell_size

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
from reports.plain import neutral
from reports.text import wrap
from verify.contract.audit import Audit, ErasureAudit, Survival

MOST_TENSORS = 20
"""Tensors that text lists, those with the largest updates; JSON and Markdown list all that changed."""
_BAR = 30


def render_audit(audit: Audit, *, width: int = 80, every: bool = False) -> str:
    """Return the audit as lines of at most `width` columns (80 or more) with a final newline.

    `every` lists all tensors that changed, not only those with the largest updates.
    """
    lines = wrap(audit.headline, width)
    lines += ["", *(line for label, text in facts(audit) for line in _fact(label, text, width))]
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


def _summary(audit: Audit, width: int) -> Iterator[str]:
    for label, text in update_figures(audit):
        yield from _fact(label, text, width, column=42)


def _fact(label: str, text: str, width: int, *, column: int = 12) -> list[str]:
    return wrap(text, width, first=f"{label:<{column}}", rest=" " * column)


def _histogram(nf4: Survival) -> Iterator[str]:
    rows = list(filled_bins(nf4))
    total, most = sum(count for _, count in rows), max((count for _, count in rows), default=0)
    for label, count in rows:
        if label == "from 1":
            yield "-" * 14 + " 1: half a bin " + "-" * 30
        bar = "#" * (round(_BAR * count / most) or (1 if count else 0))
        yield f"{label:<14}{share(count, total):>8}  {wording.count(count):>15}  {bar}"


def _tensors(audit: Audit, width: int, *, every: bool) -> Iterator[str]:
    """Yield a row for each tensor that changed, those with the largest updates first."""
    changed = [row for row in largest_first(audit) if row.changed]
    if not changed:
        return
    shown = changed if every else changed[:MOST_TENSORS]
    room = width - 52
    yield f"{'':<{room}}{'changed':>11}{'bin/upd':>9}{'<half':>8}{'crossed':>8}{'collat.':>8}{'undone':>8}"
    for row in shown:
        cells = tensor_cells(row)
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


def _cut(text: str, width: int) -> str:
    """Return a name of at most `width` columns; of a long one, the end, which tells tensors apart."""
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width).rstrip()


def _behaviour(audit: Audit, width: int) -> Iterator[str]:
    if not audit.behaviour:
        return
    column = (width - 22) // 4
    heads = ("base", "base NF4", "edited", "edited NF4")
    yield f"{'':<22}" + "".join(f"{head:<{column}}" for head in heads)
    for row in audit.behaviour:
        chance = "" if row.chance is None else f", guessing gives {row.chance:.2f}"
        yield from wrap(f"{row.axis}: {row.row}, {row.unit}, n = {row.base.n}{chance}", width, rest="  ")
        yield f"{'':<22}" + "".join(f"{model_value(row, one):<{column}}" for one in four_models(row))
        yield f"{'  interval':<22}" + "".join(f"{interval_ends(row, one):<{column}}" for one in four_models(row))
        for label, estimate in (
            ("edited minus base", row.difference),
            ("  the same, both in NF4", row.difference_nf4),
            ("NF4 minus full, base", row.gap_base),
            ("NF4 minus full, edited (PTQ gap)", row.gap),
        ):
            yield from wrap(difference_interval(row, estimate), width, first=f"  {label:<34}", rest=" " * 36)


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
            f"CAD {plain_interval(row.cad)}, rho {plain_interval(row.rho)}, n {row.cad.n}",
            width,
            first="    ",
            rest="      ",
        )


def _bullets(items: Iterable[str], width: int) -> list[str]:
    return [line for item in items for line in wrap(item, width, first="- ", rest="  ")]
