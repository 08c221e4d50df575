"""The tradeoff's figure and table: every mark where its numbers put it, and none without numbers."""

import math
from itertools import pairwise

import pytest
from test_reports_render import load

from reports import figures, render_html
from reports.tradeoff import rows, tradeoff
from verify.contract.result import Result, Tradeoff


@pytest.fixture(scope="module")
def data() -> Tradeoff:
    found = load("pass_full").tradeoff
    assert found is not None
    return found


def test_the_marks_lie_on_one_line_below_the_curve(data: Tradeoff) -> None:
    figure = tradeoff(data)
    assert figure is not None
    dot = next(shape for shape in figure.shapes if shape.shape == "dot")
    mark = next(shape for shape in figure.shapes if shape.shape == "line" and shape.kind == "mark")
    square = next(shape for shape in figure.shapes if shape.shape == "polygon")
    curve = next(shape for shape in figure.shapes if shape.shape == "polyline")
    points = [tuple(map(float, pair.split(","))) for pair in curve.points.split()]
    assert len(points) == sum(most > 0 for most in data.at_most)
    assert dot.x == mark.x1 == mark.x2
    assert all(one[0] <= two[0] and one[1] >= two[1] for one, two in pairwise(points))
    above = min(y for x, y in points if x <= dot.x)
    assert dot.y > above  # the page's y grows downwards
    assert "0,0" not in square.points
    ys = [float(pair.split(",")[1]) for pair in square.points.split()]
    assert sum(ys) / 4 == pytest.approx(figures.BOTTOM)  # nothing at all, and the scale has no 0


def test_decades_are_as_far_apart_as_they_are(data: Tradeoff) -> None:
    figure = tradeoff(data)
    assert figure is not None
    ticks = {shape.text: shape.x for shape in figure.shapes if shape.shape == "label" and shape.y > figures.BOTTOM}
    assert ticks["1"] - ticks["0.1"] == pytest.approx(ticks["100"] - ticks["10"], abs=0.2)
    norms = [norm for norm, most in zip(data.budgets, data.at_most, strict=True) if most]
    span = math.log10(norms[-1] / norms[0])
    assert ticks["1"] - ticks["0.1"] == pytest.approx((figures.RIGHT - figures.LEFT) / span, abs=0.2)


def test_every_number_is_in_the_table_and_in_words(data: Tradeoff) -> None:
    figure = tradeoff(data)
    assert figure is not None
    table = rows(data)
    assert len(table) == len(data.budgets)
    assert table[-1] == ("316", "106,168,320", "100 %")
    for count in (data.bound, data.surviving, data.even_at_most):
        assert f"{count:,}" in figure.description
    page = render_html(load("pass_full"))
    assert all(f">{most}<" in page for _, most, _ in table)


@pytest.mark.parametrize(
    "change", [{"budgets": (), "at_most": ()}, {"norm": 0.0}, {"at_most": (0,), "budgets": (1.0,)}]
)
def test_nothing_to_draw_is_no_figure(data: Tradeoff, change: dict[str, object]) -> None:
    assert tradeoff(data.model_copy(update=change)) is None
    result = load("pass_full").model_copy(update={"tradeoff": data.model_copy(update=change)})
    assert 'id="tradeoff-title"' not in render_html(result)


def test_a_model_that_quantizes_nothing_divides_by_nothing(data: Tradeoff) -> None:
    empty = Tradeoff(**{**data.model_dump(), "quantized_parameters": 0, "budgets": (), "at_most": (), "bound": 0})
    assert render_html(load("pass_full").model_copy(update={"tradeoff": empty}))


def test_a_result_of_an_older_verifier_still_loads_and_says_what_it_lacks() -> None:
    old = load("undecided_full")
    assert old.tradeoff is None
    assert Result.model_validate_json(old.model_dump_json(exclude={"tradeoff"})) == old
    assert "is not part of this result" in render_html(old)
