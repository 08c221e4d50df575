"""A calibration for people: a table of 80 columns, or of Markdown, with the rule beneath it."""

import io
import textwrap
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table

from mansu.calibration.document import Calibration, Row
from verify.checks.erasure_rule import lent
from verify.contract.schema import Estimate

_WIDTH = 80
_LABEL = 17
# a line of Markdown is as long as its cells
_WIDE = 1000

_COLUMNS: tuple[tuple[str, Callable[[Row], Estimate]], ...] = (
    ("CAD", lambda row: row.whole.cad),
    ("head", lambda row: row.read_out.cad),
    ("late", lambda row: row.late.cad),
    ("random", lambda row: row.random_edges.cad),
    ("ρ", lambda row: row.whole.rho),
    ("mass", lambda row: row.whole.mass),
)


def shown(document: Calibration, *, markdown: bool = False) -> str:
    """Return the table, what its columns mean, the rule and what speaks against it, as text."""
    parts = [_table(document, markdown=markdown), *_notes(document), document.rule]
    if document.undecided:
        parts.append(f"Undecided: {'; '.join(document.undecided)}.")
    parts += [f"{check.id} {check.status}: {check.found} (expected: {check.expected})" for check in document.checks]
    if markdown:
        return "\n\n".join(parts) + "\n"
    table, *others = parts
    return table + "\n".join(textwrap.fill(part, _WIDTH, break_on_hyphens=False) for part in others) + "\n"


def _table(document: Calibration, *, markdown: bool) -> str:
    style = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    table = Table(box=style, pad_edge=markdown, padding=(0, 1) if markdown else 0)
    table.add_column("model", max_width=None if markdown else _LABEL)
    for heading in (_stacked("forget", "retain", markdown=markdown), *(heading for heading, _ in _COLUMNS)):
        table.add_column(heading, justify="right", no_wrap=True)
    answered = _stacked(_share(document.base_forget), _share(document.base_retain), markdown=markdown)
    table.add_row("base", answered, *[""] * len(_COLUMNS))
    for row in document.rows:
        name = row.label if row.role != "edited" or row.precision == "full" else f"{row.label}, NF4"
        cells = [_interval(value(row), markdown=markdown) for _, value in _COLUMNS]
        table.add_row(name, _stacked(_share(row.forget), _share(row.retain), markdown=markdown), *cells)
    console = Console(width=_WIDE if markdown else _WIDTH, highlight=False, color_system=None, file=io.StringIO())
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + ("" if markdown else "\n\n")


def _notes(document: Calibration) -> list[str]:
    columns = (
        f"forget, retain: accuracy on held-out probes, in full precision (NF4 where named). CAD, ρ, mass: of "
        f"{document.circuit_edges:,} edges, the base's strongest of {document.edges:,}, on {document.pairs} pairs, "
        f"with 95 % intervals. head: CAD with the base's read-out; late: with "
        f"{lent(document.layers, document.late_from)}; random: CAD of as many edges drawn at random."
    )
    noise = (
        f"Split-half floor {document.split_half_floor:.3f} (CAD between two halves of the base's own pairs); "
        f"completeness residual {document.completeness_residual:.3f}."
    )
    return [columns, noise]


def _stacked(first: str, second: str, *, markdown: bool) -> str:
    return (" / " if markdown else "\n").join(filter(None, (first, second)))


def _share(value: Estimate | None) -> str:
    return "" if value is None else f"{value.value:.3f}"


def _interval(value: Estimate, *, markdown: bool) -> str:
    if markdown:
        return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
    return f"{value.value:.3f}\n{_short(value.low)}–{_short(value.high)}"


def _short(number: float) -> str:
    """Return two decimals without a leading zero."""
    return f"{number:.2f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:.2f}"
