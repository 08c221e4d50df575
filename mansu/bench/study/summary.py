"""The table of a suite: every method's numbers over its seeds."""

from collections.abc import Iterable, Sequence

from mansu.bench.study.alike import require_alike
from mansu.bench.study.cells import Cell
from mansu.bench.study.columns import ATTACKS, BASE_COLUMNS, COLUMNS, TOFU, CellDocument, first_measured
from mansu.bench.study.document import (
    AxesRecord,
    EditRecord,
    ErasureRecord,
    RelearningRecord,
    RobustRecord,
    TofuRecord,
)
from mansu.bench.study.judging import Axis, Criteria, met
from verify.contract.policy import Policy
from verify.contract.schema import Estimate, Schema


class Over(Schema):
    """A number over seeds: the mean, its interval, and each seed's value.

    Low and high are the means of the ends of the seeds' 95 % intervals. They do not narrow with seeds, which ask one
    base about the same facts and so are not independent; nor do they hold how much a method differs from seed to seed,
    which `seeds` shows. Of numbers without an interval (costs, shares) low and high are the seeds' least and greatest.
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


class SeedTable(Schema):
    """The table of one seed alone: the base's numbers on its split of the facts, and each method's."""

    seed: int
    base: dict[str, Over | None]
    lines: tuple[Line, ...]


class Document(Schema):
    """What `mansu bench` writes as JSON: the criteria, the table, and every document of every cell.

    `base` holds the base's own numbers, `base_cells` what it withstands, by seed; `by_seed` the table of each seed,
    where there are several.
    """

    suite: str
    criteria: Criteria
    policy_sha256: str
    base: dict[str, Over | None]
    lines: tuple[Line, ...]
    by_seed: tuple[SeedTable, ...] = ()
    cells: tuple[CellDocument, ...]
    base_cells: tuple[CellDocument, ...]


def document(
    cells: Iterable[Cell], base_cells: Iterable[Cell], suite: str, criteria: Criteria, policy: Policy
) -> Document:
    """Read what is there of these cells, and make the table. Cells without an edit are left out.

    Raises `UsageError` ME382 where the edits were not made alike.
    """
    found = [each for cell in cells if (each := read(cell)).edit is not None]
    require_alike(each.edit for each in found if each.edit is not None)
    bases = [each for cell in base_cells if any(((each := read(cell)).robust, each.relearning, each.tofu))]
    by_method: dict[str, list[CellDocument]] = {}
    for each in found:
        by_method.setdefault(each.method, []).append(each)
    return Document(
        suite=suite,
        criteria=criteria,
        policy_sha256=policy.sha256(),
        base=_base(found, bases),
        lines=tuple(_line(each, criteria, policy) for each in by_method.values()),
        by_seed=_by_seed(found, bases, criteria, policy),
        cells=tuple(found),
        base_cells=tuple(bases),
    )


def read(cell: Cell) -> CellDocument:
    """Return a cell's documents, those that are there."""
    return CellDocument(
        seed=cell.seed,
        method=cell.method,
        edit=cell.read("edit", EditRecord),
        axes=cell.read("axes", AxesRecord),
        erasure=cell.read("erasure", ErasureRecord),
        robust=cell.read("robust", RobustRecord),
        relearning=cell.read("relearning", RelearningRecord),
        tofu=cell.read("tofu", TofuRecord),
    )


def _by_seed(
    cells: Sequence[CellDocument], base_cells: Sequence[CellDocument], criteria: Criteria, policy: Policy
) -> tuple[SeedTable, ...]:
    seeds, methods = sorted({each.seed for each in cells}), list(dict.fromkeys(each.method for each in cells))
    if len(seeds) < 2:
        return ()
    tables = []
    for seed in seeds:
        of_seed = sorted((each for each in cells if each.seed == seed), key=lambda each: methods.index(each.method))
        base = _base(of_seed, [each for each in base_cells if each.seed == seed])
        tables.append(SeedTable(seed=seed, base=base, lines=tuple(_line([each], criteria, policy) for each in of_seed)))
    return tuple(tables)


def _base(cells: Sequence[CellDocument], base_cells: Sequence[CellDocument]) -> dict[str, Over | None]:
    """Return the base's numbers: those that stand beside every edit's, of each seed once, and what it withstands."""
    beside = {column.name: _over([column.of(each) for each in first_measured(cells)]) for column in BASE_COLUMNS}
    return beside | {column.name: _over([column.of(each) for each in base_cells]) for column in (*ATTACKS, *TOFU)}


def _line(cells: Sequence[CellDocument], criteria: Criteria, policy: Policy) -> Line:
    judged = [met(each.axes, each.erasure, criteria, policy) for each in cells if each.axes is not None]
    counts: dict[Axis, int] = {}
    for verdicts in judged:
        for axis, holds in verdicts.items():
            if holds is not None:
                counts[axis] = counts.get(axis, 0) + holds
    edits = [each.edit for each in cells if each.edit is not None]
    return Line(
        method=edits[0].method,
        title=edits[0].title,
        seeds=tuple(edit.seed for edit in edits),
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
    low, high = (sum(ends) / len(estimates) for ends in zip(*((e.low, e.high) for e in estimates), strict=True))
    return Over(value=mean, low=low, high=high, seeds=tuple(points))
