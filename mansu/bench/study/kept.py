"""What is retained, row by row: the change of each topic's accuracy, which the worst of them does not tell."""

from collections.abc import Iterable, Sequence

from mansu.bench.study.columns import CellDocument
from verify.contract.result import AxisRow


def topics(cells: Iterable[CellDocument]) -> tuple[str, ...]:
    """Return the rows of retained facts, in the order of their names."""
    return tuple(sorted({row.row for cell in cells for row in _retained(cell)}))


def base_kept(cells: Sequence[CellDocument], names: Sequence[str]) -> tuple[str, ...]:
    """Return the base's accuracy on each row, full precision → NF4: the mean over seeds."""
    first = {cell.seed: cell for cell in reversed(cells) if cell.axes is not None}
    rows = [[row for cell in first.values() for row in _retained(cell) if row.row == name] for name in names]
    return tuple(_pair([(row.base.value, row.base_nf4.value) for row in found], ".3f") for found in rows)


def kept(cells: Sequence[CellDocument], names: Sequence[str]) -> tuple[str, ...]:
    """Return the change of each row from the base in the same precision, full precision → NF4: the mean over seeds."""
    rows = [[row for cell in cells for row in _retained(cell) if row.row == name] for name in names]
    return tuple(_pair([(row.difference.value, row.difference_nf4.value) for row in found], "+.3f") for found in rows)


def _retained(cell: CellDocument) -> list[AxisRow]:
    rows = () if cell.axes is None else cell.axes.rows
    return [row for row in rows if row.axis == "retention" and row.unit == "accuracy"]


def _pair(values: Sequence[tuple[float, float]], form: str) -> str:
    if not values:
        return "—"
    full, nf4 = (sum(each) / len(values) for each in zip(*values, strict=True))
    return f"{full:{form}} → {nf4:{form}}"
