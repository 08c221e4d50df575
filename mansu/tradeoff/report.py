"""`mansu tradeoff`: the tradeoff as a figure, as numbers, and as tables for a terminal of 80 columns."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from mansu.config import Config
from mansu.progress import Steps
from mansu.tradeoff.measure import Panel, Tradeoff, Update, as_json, tradeoff
from verify.artefact import write_atomic
from verify.errors import UsageError

FORMATS = (".svg", ".png", ".pdf")

_AXES = {
    "norm": "norm of the update, ‖Δ‖₂",
    "nats": "rise of the retain loss, ½ Σ F Δ² (nats)",
}
_LINES = {
    "crossing": ("black", "-"),
    "crossing_fixed_scale": ("black", ":"),
    "five_rows": ("0.55", "-"),
    "five_rows_fixed_scale": ("0.55", ":"),
}
_LABELS = (
    # curve, text, share of the largest count it stands at, offset in points, alignment
    ("crossing", "can change code", 3e-2, (-6, 4), "right"),
    ("five_rows_fixed_scale", "can satisfy\nthe five rows", 1e-4, (8, -14), "left"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_PER_TABLE = 3


def report(
    model: Path,
    updates: Sequence[str],
    retain: Path | None,
    config: Config,
    out: Path,
    numbers: Path | None,
    *,
    steps: Steps,
) -> str:
    """Compute the tradeoff, write the figure to `out` and its numbers to `numbers`, and return the tables.

    `updates` are NAME=FOLDER. Raises `UsageError` ME240 for these or for an unknown kind of figure, before any work,
    and whatever `mansu.tradeoff.measure.tradeoff` raises. Files are written whole or not at all.
    """
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise _refused("the plot's file name names no kind of figure", f"one ending in {', '.join(FORMATS)}", str(out))
    for path in (out, numbers):
        if path is not None and not path.absolute().parent.is_dir():
            raise _refused("an output's folder does not exist", "a folder that exists", str(path.parent))
    found = tradeoff(model, _named(updates), retain, config, steps=steps)
    write_atomic(out, figure(found, suffix))
    if numbers is not None:
        write_atomic(numbers, (json.dumps(as_json(found), indent=1, allow_nan=False) + "\n").encode())
    return f"{tables(found)}plot: {out}\n"


def _named(updates: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for update in updates:
        name, sign, folder = update.partition("=")
        if not (name and sign and folder) or not name.isprintable():
            raise _refused("an --update is not NAME=FOLDER", "such as --update npo=demo-run/baselines/npo", update)
        if name in named:
            raise _refused("two updates have one name", "a name of its own for each --update", name)
        named[name] = Path(folder)
    return named


def _refused(what: str, expected: str, found: str) -> UsageError:
    remedy = "correct the command; mansu tradeoff --help describes it"
    return UsageError(what, expected=expected, found=found, remedy=remedy, error_id="ME240")


def figure(found: Tradeoff, suffix: str) -> bytes:
    """Draw the panels and return the file's bytes; `suffix` is one of `FORMATS`. The same numbers give the same bytes.

    Black curves bound the codes that change, grey ones those that do so by the five rows; solid holds for every
    update, dotted while block scales are kept. A filled marker is an edited model, a hollow one its share by five rows.
    """
    with mpl.rc_context(
        {"svg.hashsalt": "mansu", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        drawing = Figure(figsize=(6.4 * len(found.panels), 4.8), layout="constrained")
        axes = drawing.subplots(1, len(found.panels), squeeze=False)[0]
        for axis, panel in zip(axes, found.panels, strict=True):
            _draw(axis, panel, found.updates)
        drawing.suptitle(f"{found.model}: how many of {found.parameters:,} NF4 weights an update can move at most")
        note = "solid: any update; dotted: block scales kept"
        hollow = "; filled: codes changed, hollow: by the five rows" if found.updates else ""
        drawing.supxlabel(note + hollow, fontsize=8, color="0.3")
        buffer = io.BytesIO()
        undated: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        drawing.savefig(buffer, format=suffix[1:], dpi=160, metadata=undated.get(suffix))
    return buffer.getvalue()


def _draw(axis: Axes, panel: Panel, updates: Sequence[Update]) -> None:
    axis.set(xscale="log", yscale="log", xlabel=_AXES[panel.unit], ylabel="parameters")
    axis.grid(color="0.92", linewidth=0.6)
    axis.set_axisbelow(True)
    for name, (colour, style) in _LINES.items():
        counts = np.array(panel.counts[name], dtype=float)
        seen = (counts > 0) & (np.array(panel.budgets) > 0)
        # after the largest count is reached, only as far as some update lies
        last = int(np.searchsorted(counts, counts[-1])) + 6
        end = max(last, int(np.searchsorted(panel.budgets, max(panel.update_budgets, default=0.0))) + 1)
        seen[end:] = False
        axis.plot(np.array(panel.budgets)[seen], counts[seen], color=colour, linestyle=style, linewidth=1.3)
    for name, text, share, offset, side in _LABELS:
        counts = np.array(panel.counts[name])
        at = int(np.searchsorted(counts, share * counts[-1])) if counts[-1] else counts.size
        if 0 < at < counts.size:
            where = (panel.budgets[at], float(counts[at]))
            axis.annotate(
                text, where, offset, textcoords="offset points", ha=side, color=_LINES[name][0], fontweight="bold"
            )
    for i, (update, budget) in enumerate(zip(updates, panel.update_budgets, strict=True)):
        marker = _MARKERS[i % len(_MARKERS)]
        if budget <= 0:
            continue
        if update.crossed:
            axis.plot([budget], [update.crossed], marker, color="black", markersize=6)
        if update.five_rows:
            axis.plot([budget], [update.five_rows], marker, color="black", markersize=9, fillstyle="none")
        if update.crossed or update.five_rows:
            height = max(update.crossed, update.five_rows)
            axis.annotate(update.name, (budget, height), (9, -3), textcoords="offset points")


def tables(found: Tradeoff) -> str:
    """Return the curve at powers of ten, and each update under its bounds, as text of at most 80 columns."""
    console = Console(width=80, highlight=False, color_system=None, file=io.StringIO())
    for panel in found.panels:
        console.print(_curve_table(panel))
    for start in range(0, len(found.updates), _PER_TABLE):
        console.print(_update_table(found, range(start, min(start + _PER_TABLE, len(found.updates)))))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def _curve_table(panel: Panel) -> Table:
    table = Table(title=f"At most so many parameters, by {_AXES[panel.unit]}", box=box.SIMPLE, title_justify="left")
    table.add_column(panel.unit, justify="right")
    for heading in ("change code", "scales kept", "five rows", "scales kept"):
        table.add_column(heading, justify="right")
    exponents = np.log10(np.array(panel.budgets))
    for at in np.flatnonzero(np.abs(exponents - exponents.round()) < 1e-6):
        counts = [panel.counts[name][at] for name in _LINES]
        if any(counts):
            table.add_row(f"{panel.budgets[at]:.3g}", *(f"{count:,}" for count in counts))
    return table


def _update_table(found: Tradeoff, chosen: range) -> Table:
    table = Table(title="Edited models", box=box.SIMPLE, title_justify="left")
    table.add_column("")
    for i in chosen:
        table.add_column(found.updates[i].name, justify="right", overflow="fold")
    rows: list[tuple[str, Callable[[int], str]]] = [("norm of the update", lambda i: f"{found.updates[i].norm:.4g}")]
    if len(found.panels) > 1:
        rows.append(("nats of the update", lambda i: f"{found.updates[i].nats:.3g}"))
    rows += [
        ("parameters changed", lambda i: f"{found.updates[i].changed:,}"),
        ("codes changed", lambda i: f"{found.updates[i].crossed:,}"),
        *((f"  at most, by {p.unit}", lambda i, p=p: f"{p.at_updates['crossing'][i]:,}") for p in found.panels),
        ("by the five rows", lambda i: f"{found.updates[i].five_rows:,}"),
        *((f"  at most, by {p.unit}", lambda i, p=p: f"{p.at_updates['five_rows'][i]:,}") for p in found.panels),
        ("median bin width / update", lambda i: f"{found.updates[i].bin_width_over_update:.3g}"),
    ]
    for title, value in rows:
        table.add_row(title, *(value(i) for i in chosen))
    return table
