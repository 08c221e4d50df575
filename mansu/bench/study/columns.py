"""The numbers of the table: each a function of a cell's documents."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mansu.bench.study.document import (
    AxesRecord,
    EditRecord,
    ErasureRecord,
    RelearningRecord,
    RobustRecord,
    TofuRecord,
)
from mansu.bench.study.judging import deciding
from verify.contract.result import AxisRow, CadRow
from verify.contract.schema import Estimate, Schema

NEIGHBOURS = "neighbours"


class CellDocument(Schema):
    """Everything known of one method with one seed; of the base, which is edited by none, only what it withstands."""

    seed: int
    method: str
    edit: EditRecord | None
    axes: AxesRecord | None
    erasure: ErasureRecord | None
    robust: RobustRecord | None = None
    relearning: RelearningRecord | None = None
    tofu: TofuRecord | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A number of the table: its name, and how a cell gives it (None where it was not measured)."""

    name: str
    of: Callable[[CellDocument], Estimate | float | None]


def first_measured(cells: Iterable[CellDocument]) -> list[CellDocument]:
    """Return one cell of each seed that has axes: the base's numbers stand beside every edit's."""
    first: dict[int, CellDocument] = {}
    for cell in cells:
        if cell.axes is not None:
            first.setdefault(cell.seed, cell)
    return list(first.values())


def rows_of(cell: CellDocument, axis: str) -> list[AxisRow]:
    """Return a cell's rows of an axis; none where it was not measured."""
    return [] if cell.axes is None else [row for row in cell.axes.rows if row.axis == axis]


def _forgetting(
    pick: Callable[[AxisRow], Estimate], *, axis: str = "forgetting", facts: bool = False
) -> Callable[[CellDocument], Estimate | None]:
    def of(cell: CellDocument) -> Estimate | None:
        rows = rows_of(cell, axis)
        chosen = [row for row in rows if row.row.endswith("held-out facts")] if facts else deciding(rows, axis)
        return pick(chosen[0]) if chosen else None

    return of


def _lost(wanted: Callable[[AxisRow], bool]) -> Callable[[CellDocument], Estimate | None]:
    """Return the worst change of the rows wanted, of either precision: the lowest accuracy, or the highest rise."""

    def of(cell: CellDocument) -> Estimate | None:
        rows = [row for row in rows_of(cell, "retention") if wanted(row)]
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


def _asked(way: str) -> Callable[[CellDocument], Estimate | None]:
    """Return the better of a model's answers in one way, of full precision and NF4."""

    def of(cell: CellDocument) -> Estimate | None:
        if cell.robust is None:
            return None
        rows = [row.correct for row in (*cell.robust.full, *cell.robust.nf4) if row.way == way]
        return max(rows, key=lambda correct: correct.value) if rows else None

    return of


def _relearned(kind: str, taught: int) -> Callable[[CellDocument], Estimate | None]:
    def of(cell: CellDocument) -> Estimate | None:
        points = () if cell.relearning is None else cell.relearning.points
        return next((p.estimate for p in points if (p.kind, p.steps) == (kind, taught)), None)

    return of


def _lost_together(cell: CellDocument) -> Estimate | None:
    """Return the change of all rows of other facts as one, in the worse precision.

    Rows are of different facts: their errors add up as independent ones do.
    """
    rows = [row for row in rows_of(cell, "retention") if _is_other(row)]
    if not rows:
        return None
    both = (_pooled([row.difference for row in rows]), _pooled([row.difference_nf4 for row in rows]))
    return min(both, key=lambda change: change.value)


def _pooled(parts: list[Estimate]) -> Estimate:
    n = sum(part.n for part in parts)
    value = sum(part.n * part.value for part in parts) / n
    below = math.hypot(*(part.n * (part.value - part.low) for part in parts)) / n
    above = math.hypot(*(part.n * (part.high - part.value) for part in parts)) / n
    return Estimate(value=value, low=value - below, high=value + above, n=n)


def _is_neighbours(row: AxisRow) -> bool:
    return row.row == NEIGHBOURS


def _is_other(row: AxisRow) -> bool:
    return row.unit == "accuracy" and row.row != NEIGHBOURS


def _is_prose(row: AxisRow) -> bool:
    return row.unit == "perplexity"


def _made(of: Callable[[EditRecord], float | None]) -> Callable[[CellDocument], float | None]:
    return lambda cell: None if cell.edit is None else of(cell.edit)


ATTACKS: tuple[Column, ...] = (
    Column("paraphrases", _asked("paraphrases")),
    Column("languages", _asked("languages")),
    Column("choices", _asked("choices")),
    Column("open", _asked("open")),
    Column("few_shot", _asked("few-shot")),
    *(Column(f"relearned_{taught}", _relearned("facts", taught)) for taught in (0, 10, 100)),
    *(Column(f"relearned_text_{taught}", _relearned("text", taught)) for taught in (0, 100)),
)
"""What an edit withstands; of the base too."""


def _tofu(pick: Callable[[TofuRecord], float]) -> Callable[[CellDocument], float | None]:
    return lambda cell: None if cell.tofu is None else pick(cell.tofu)


TOFU: tuple[Column, ...] = (
    Column("forget_quality", _tofu(lambda record: record.forget_quality)),
    Column("ks_statistic", _tofu(lambda record: record.statistic)),
    Column("utility", _tofu(lambda record: record.utility)),
    Column("reference_utility", _tofu(lambda record: record.reference_utility)),
)
"""TOFU's metrics, of the suite `authors`."""

COLUMNS: tuple[Column, ...] = (
    *ATTACKS,
    *TOFU,
    Column("forget", _forgetting(lambda row: row.edited)),
    Column("forget_nf4", _forgetting(lambda row: row.edited_nf4)),
    Column("forget_facts", _forgetting(lambda row: row.edited, facts=True)),
    Column("forget_facts_nf4", _forgetting(lambda row: row.edited_nf4, facts=True)),
    Column("ptq_gap", _forgetting(lambda row: row.difference_nf4, axis="ptq_gap")),
    Column("neighbours", _lost(_is_neighbours)),
    Column("other_facts", _lost(_is_other)),
    Column("other_facts_together", _lost_together),
    Column("perplexity", _lost(_is_prose)),
    Column("cad", _cad("full", late=False)),
    Column("cad_nf4", _cad("nf4", late=False)),
    Column("late_cad", _cad("full", late=True)),
    Column("late_cad_nf4", _cad("nf4", late=True)),
    Column("retain_cad_nf4", _cad("nf4", late=False, role="retain")),
    Column("share_changed", _made(lambda edit: edit.changed / edit.parameters)),
    Column("share_crossing", _made(lambda edit: edit.crossing / edit.changed if edit.changed else None)),
    Column("bin_width_over_update", _made(lambda edit: edit.bin_width_over_update)),
    Column("edit_cpu_seconds", _made(lambda edit: edit.cost.cpu_seconds)),
    # of the other seeds, which take the first one's setting, there is no search that it could be the mean with
    Column("search_cpu_seconds", _made(lambda edit: edit.search.cpu_seconds if edit.tuned_on == edit.seed else None)),
    Column("peak_bytes", _made(lambda edit: edit.cost.peak_bytes)),
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
