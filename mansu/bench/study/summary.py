"""The table of a suite: every method's numbers over its seeds."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mansu.bench.study.cells import Cell
from mansu.bench.study.document import AxesRecord, EditRecord, ErasureRecord
from mansu.bench.study.judging import Axis, Criteria, deciding, met
from verify.contract.policy import Policy
from verify.contract.result import AxisRow, CadRow
from verify.contract.schema import Estimate, Schema

NEIGHBOURS = "neighbours"


class Over(Schema):
    """A number over seeds: the mean, its interval, and each seed's value.

    The interval is the mean of the seeds' 95 % intervals as if independent: half widths by √Σh²/k. Of numbers without
    an interval (costs, shares) low and high are the least and the greatest of the seeds.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


class Line(Schema):
    """One method's row of the table.

    `met` counts by axis the seeds that meet it, of the `measured` ones. What was not measured is None.
    """

    method: str
    title: str
    seeds: tuple[int, ...]
    met: dict[Axis, int]
    measured: int
    numbers: dict[str, Over | None]


class Document(Schema):
    """What `mansu bench` writes as JSON: the criteria, the table, and every document of every cell."""

    suite: str
    criteria: Criteria
    policy_sha256: str
    lines: tuple[Line, ...]
    cells: tuple["CellDocument", ...]


class CellDocument(Schema):
    """Everything known of one method with one seed."""

    edit: EditRecord
    axes: AxesRecord | None
    erasure: ErasureRecord | None


@dataclass(frozen=True, slots=True)
class Column:
    """A number of the table: its name, and how a cell gives it (None where it was not measured)."""

    name: str
    of: Callable[[CellDocument], Estimate | float | None]


def document(cells: Iterable[Cell], suite: str, criteria: Criteria, policy: Policy) -> Document:
    """Read what is there of these cells, and make the table. Cells without an edit are left out."""
    found = [each for cell in cells if (each := read(cell)) is not None]
    by_method: dict[str, list[CellDocument]] = {}
    for each in found:
        by_method.setdefault(each.edit.method, []).append(each)
    lines = tuple(_line(each, criteria, policy) for each in by_method.values())
    return Document(suite=suite, criteria=criteria, policy_sha256=policy.sha256(), lines=lines, cells=tuple(found))


def read(cell: Cell) -> CellDocument | None:
    """Return a cell's documents, or None where there is no edit."""
    edit = cell.read("edit", EditRecord)
    if edit is None:
        return None
    return CellDocument(edit=edit, axes=cell.read("axes", AxesRecord), erasure=cell.read("erasure", ErasureRecord))


def base_line(found: Document) -> dict[str, Over | None]:
    """Return the base's own numbers, as the cells hold them: each seed once."""
    first: dict[int, CellDocument] = {}
    for each in found.cells:
        if each.axes is not None:
            first.setdefault(each.edit.seed, each)
    return {column.name: _over([column.of(each) for each in first.values()]) for column in BASE_COLUMNS}


def _line(cells: Sequence[CellDocument], criteria: Criteria, policy: Policy) -> Line:
    judged = [met(each.axes, each.erasure, criteria, policy) for each in cells if each.axes is not None]
    counts: dict[Axis, int] = {}
    for verdicts in judged:
        for axis, holds in verdicts.items():
            if holds is not None:
                counts[axis] = counts.get(axis, 0) + holds
    return Line(
        method=cells[0].edit.method,
        title=cells[0].edit.title,
        seeds=tuple(each.edit.seed for each in cells),
        met=counts,
        measured=len(judged),
        numbers={column.name: _over([column.of(each) for each in cells]) for column in COLUMNS},
    )


def _over(values: Sequence[Estimate | float | None]) -> Over | None:
    there = [value for value in values if value is not None]
    if not there:
        return None
    points = [each.value if isinstance(each, Estimate) else each for each in there]
    mean = sum(points) / len(points)
    estimates = [each for each in there if isinstance(each, Estimate)]
    if not estimates:
        return Over(value=mean, low=min(points), high=max(points), seeds=tuple(points))
    down, up = (
        math.sqrt(sum(width**2 for width in widths)) / len(points)
        for widths in ([each.value - each.low for each in estimates], [each.high - each.value for each in estimates])
    )
    return Over(value=mean, low=mean - down, high=mean + up, seeds=tuple(points))


def _rows(cell: CellDocument, axis: str) -> list[AxisRow]:
    return [] if cell.axes is None else [row for row in cell.axes.rows if row.axis == axis]


def _forgetting(
    pick: Callable[[AxisRow], Estimate], *, axis: str = "forgetting", facts: bool = False
) -> Callable[[CellDocument], Estimate | None]:
    def of(cell: CellDocument) -> Estimate | None:
        rows = _rows(cell, axis)
        chosen = [row for row in rows if row.row.endswith("held-out facts")] if facts else deciding(rows, axis)
        return pick(chosen[0]) if chosen else None

    return of


def _lost(wanted: Callable[[AxisRow], bool]) -> Callable[[CellDocument], Estimate | None]:
    """Return the worst change of the rows wanted, of either precision: the lowest accuracy, or the highest rise."""

    def of(cell: CellDocument) -> Estimate | None:
        rows = [row for row in _rows(cell, "retention") if wanted(row)]
        changes = [(change, row.unit) for row in rows for change in (row.difference, row.difference_nf4)]
        if not changes:
            return None
        order = max if changes[0][1] == "perplexity" else min
        return order((change for change, _ in changes), key=lambda change: change.value)

    return of


def _cad(precision: str, *, late: bool, role: str = "edited") -> Callable[[CellDocument], Estimate | None]:
    def wanted(row: CadRow) -> bool:
        return row.role == role and row.precision == precision and (row.from_layer is not None) == late

    def of(cell: CellDocument) -> Estimate | None:
        rows = [] if cell.erasure is None else [row for row in cell.erasure.rows if wanted(row)]
        return rows[0].cad if rows else None

    return of


def _is_neighbours(row: AxisRow) -> bool:
    return row.row == NEIGHBOURS


def _is_other(row: AxisRow) -> bool:
    return row.unit == "accuracy" and row.row != NEIGHBOURS


def _is_prose(row: AxisRow) -> bool:
    return row.unit == "perplexity"


COLUMNS: tuple[Column, ...] = (
    Column("forget", _forgetting(lambda row: row.edited)),
    Column("forget_nf4", _forgetting(lambda row: row.edited_nf4)),
    Column("forget_facts", _forgetting(lambda row: row.edited, facts=True)),
    Column("forget_facts_nf4", _forgetting(lambda row: row.edited_nf4, facts=True)),
    Column("ptq_gap", _forgetting(lambda row: row.difference_nf4, axis="ptq_gap")),
    Column("neighbours", _lost(_is_neighbours)),
    Column("other_facts", _lost(_is_other)),
    Column("perplexity", _lost(_is_prose)),
    Column("cad", _cad("full", late=False)),
    Column("cad_nf4", _cad("nf4", late=False)),
    Column("late_cad", _cad("full", late=True)),
    Column("late_cad_nf4", _cad("nf4", late=True)),
    Column("retain_cad_nf4", _cad("nf4", late=False, role="retain")),
    Column("share_changed", lambda cell: cell.edit.changed / cell.edit.parameters),
    Column("share_crossing", lambda cell: cell.edit.crossing / cell.edit.changed if cell.edit.changed else None),
    Column("bin_width_over_update", lambda cell: cell.edit.bin_width_over_update),
    Column("edit_cpu_seconds", lambda cell: cell.edit.cost.cpu_seconds),
    Column("search_cpu_seconds", lambda cell: cell.edit.search.cpu_seconds),
    Column("peak_bytes", lambda cell: cell.edit.cost.peak_bytes),
)

BASE_COLUMNS: tuple[Column, ...] = (
    Column("forget", _forgetting(lambda row: row.base)),
    Column("forget_nf4", _forgetting(lambda row: row.base_nf4)),
    Column("forget_facts", _forgetting(lambda row: row.base, facts=True)),
    Column("forget_facts_nf4", _forgetting(lambda row: row.base_nf4, facts=True)),
    Column("ptq_gap", _forgetting(lambda row: row.difference, axis="ptq_gap")),
    Column("chance", lambda cell: next(iter(cell.axes.chance.values())) if cell.axes and cell.axes.chance else None),
    Column("cad_nf4", _cad("nf4", late=False, role="control")),
    Column("late_cad_nf4", _cad("nf4", late=True, role="control")),
    Column("retain_cad_nf4", _cad("nf4", late=False, role="retain control")),
)
