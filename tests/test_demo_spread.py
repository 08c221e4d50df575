"""The spread over seeds shows what each result says, and nothing that one of them lacks."""

from pathlib import Path

from mansu.demo.spread import side_by_side, spread
from verify.contract.result import AxisRow, Result

PASSED = Result.model_validate_json((Path(__file__).parent / "golden" / "report_pass_full.json").read_bytes())


def with_row(index: int, **values: float) -> Result:
    """Return the golden result with other values in one row of the axes."""
    row = PASSED.axes[index]
    estimates = {name: getattr(row, name).model_copy(update={"value": value}) for name, value in values.items()}
    axes = (*PASSED.axes[:index], row.model_copy(update=estimates), *PASSED.axes[index + 1 :])
    return PASSED.model_copy(update={"axes": axes})


def cells(table: str, name: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.split("│")[1:2] and line.split("│")[1].strip() == name)
    return [cell.strip() for cell in line.split("│")[2:-1]]


def index_of(axis: str, unit: str = "accuracy") -> tuple[int, AxisRow]:
    return next((i, row) for i, row in enumerate(PASSED.axes) if row.axis == axis and row.unit == unit)


def test_the_table_shows_each_seed_the_median_and_the_range() -> None:
    index, row = index_of("forgetting")
    results = {f"seed {seed}": with_row(index, edited=value) for seed, value in enumerate((0.04, 0.02, 0.09))}
    table = spread(results)
    assert cells(table, f"{row.row} (full)") == ["0.040", "0.020", "0.090", "0.040", "0.020 to 0.090"]
    assert cells(table, "verdict")[:3] == ["PASS"] * 3
    assert cells(table, "parameters changed, share")[0] == f"{PASSED.permanence[0].changed_share:.3%}"


def test_retention_is_shown_as_the_difference_from_the_base() -> None:
    (index, row), (prose_index, prose) = index_of("retention"), index_of("retention", "perplexity")
    table = spread({"a": with_row(index, difference_nf4=-0.011), "b": with_row(prose_index, difference=0.0123)})
    assert cells(table, f"{row.row} (NF4), difference")[0] == "-0.011"
    assert cells(table, f"{prose.row} (full), difference, %")[1] == "+1.2%"


def test_the_gap_and_cad_with_their_controls_are_there() -> None:
    table = spread({"a": PASSED, "b": PASSED})
    _, gap = index_of("ptq_gap")
    assert cells(table, f"PTQ gap: {gap.row}, difference")[0] == f"{gap.difference_nf4.value:+.3f}"
    assert PASSED.erasure is not None
    edited = next(row for row in PASSED.erasure.rows if row.role == "edited" and row.from_layer is None)
    assert cells(table, "CAD (full)")[0] == f"{edited.cad.value:.3f}"
    assert "control, " in table


def test_what_one_result_lacks_is_left_out() -> None:
    assert "CAD" in spread({"a": PASSED, "b": PASSED})
    assert "CAD" not in spread({"a": PASSED, "b": PASSED.model_copy(update={"erasure": None})})


def test_side_by_side_has_the_results_alone() -> None:
    index, row = index_of("forgetting")
    table = side_by_side({"one": with_row(index, edited=0.5), "two": PASSED}, title="Masks")
    assert "Masks" in table
    assert cells(table, f"{row.row} (full)") == ["0.500", f"{row.edited.value:.3f}"]
