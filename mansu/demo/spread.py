"""What the verifier found of several certificates of the same request, side by side; of seeds, their spread."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median

from rich.console import Console
from rich.table import Table

from verify.contract.result import AxisRow, CadRow, Result

_PRECISIONS = ("full", "NF4")


def spread(results: Mapping[str, Result]) -> str:
    """Return a table of the numbers of each seed's result (name → result), with their median and range, as text."""
    return side_by_side(results, title=f"{len(results)} seeds, as verified, on held-out probes", spread=True)


def side_by_side(results: Mapping[str, Result], *, title: str, spread: bool = False) -> str:
    """Return a table of each result's numbers (name → result), with `spread` their median and range too, as text.

    Retention is shown as the difference from the base, for each seed holds out other probes. Numbers that not every
    result has are left out.
    """
    table = Table(title=title)
    for column in ("", *results, *(("median", "range") if spread else ())):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("verdict", *(result.verdict for result in results.values()))
    for name, values in _rows(results).items():
        form = {"%": "+.1%", "share": ".3%"}.get(name.rpartition(", ")[2], "+.3f" if "difference" in name else ".3f")
        cells = [f"{value:{form}}" for value in values]
        if spread:
            cells += [f"{median(values):{form}}", f"{min(values):{form}} to {max(values):{form}}"]
        table.add_row(name, *cells)
    console = Console(width=60 + 14 * len(results), stderr=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _rows(results: Mapping[str, Result]) -> dict[str, list[float]]:
    """Return the numbers that every result has, by name, in the order of the first."""
    rows: dict[str, list[float]] = defaultdict(list)
    for result in results.values():
        for name, value in _numbers(result):
            rows[name].append(value)
    return {name: values for name, values in rows.items() if len(values) == len(results)}


def _numbers(result: Result) -> Iterator[tuple[str, float]]:
    for row in result.axes:
        yield from _axis(row)
    if result.erasure is not None:
        for cad in result.erasure.rows:
            if cad.role != "retain control":
                yield _cad_name(cad), cad.cad.value
    if result.permanence:
        yield "parameters changed, share", result.permanence[0].changed_share


def _axis(row: AxisRow) -> Iterator[tuple[str, float]]:
    if row.axis == "ptq_gap":
        yield f"PTQ gap: {row.row}, difference", row.difference_nf4.value
    elif row.axis == "forgetting":
        for precision, estimate in zip(_PRECISIONS, (row.edited, row.edited_nf4), strict=True):
            yield f"{row.row} ({precision})", estimate.value
    else:
        unit = "difference" if row.unit == "accuracy" else "difference, %"
        for precision, estimate in zip(_PRECISIONS, (row.difference, row.difference_nf4), strict=True):
            yield f"{row.row} ({precision}), {unit}", estimate.value


def _cad_name(row: CadRow) -> str:
    """Name a row of CAD; the first late layer may differ from model to model, so it is not in the name."""
    what = {"edited": "CAD", "control": f"control, {row.label}", "retain": "retain CAD"}.get(row.role, row.role)
    late = "" if row.from_layer is None else ", late layers of the base"
    return f"{what} ({'NF4' if row.precision == 'nf4' else 'full'}{late})"
