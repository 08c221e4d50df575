"""What is retained, row by row: the change of each topic's accuracy, which the worst of them does not tell."""

from collections.abc import Callable, Iterable, Sequence

from mansu.bench.study.columns import CellDocument, first_measured, rows_of
from verify.contract.result import AxisRow


def topics(cells: Iterable[CellDocument]) -> tuple[str, ...]:
    """Return the rows of retained facts, in the order of their names."""
    return tuple(sorted({row.row for cell in cells for row in _retained(cell)}))


def base_kept(cells: Iterable[CellDocument], names: Sequence[str]) -> tuple[str, ...]:
    """Return the base's accuracy on each row, full precision → NF4: the mean over seeds."""
    return _means(first_measured(cells), names, lambda row: (row.base.value, row.base_nf4.value), ".3f")


def kept(cells: Iterable[CellDocument], names: Sequence[str]) -> tuple[str, ...]:
    """Return the change of each row from the base in the same precision, full precision → NF4: the mean over seeds."""
    return _means(cells, names, lambda row: (row.difference.value, row.difference_nf4.value), "+.3f")


def _retained(cell: CellDocument) -> list[AxisRow]:
    return [row for row in rows_of(cell, "retention") if row.unit == "accuracy"]


def _means(
    cells: Iterable[CellDocument], names: Sequence[str], pick: Callable[[AxisRow], tuple[float, float]], form: str
) -> tuple[str, ...]:
    """Return for each name the mean of what is picked of its rows, in both precisions; a dash where there are none."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for cell in cells:
        for row in _retained(cell):
            found[row.row].append(pick(row))
    return tuple(_pair(found[name], form) for name in names)


def _pair(values: Sequence[tuple[float, float]], form: str) -> str:
    if not values:
        return "—"
    full, nf4 = (sum(each) / len(values) for each in zip(*values, strict=True))
    return f"{full:{form}} → {nf4:{form}}"
