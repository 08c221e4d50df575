from pathlib import Path
from typing import Any

import pytest

from reports import figures, measurements
from verify.contract.result import DepthPoint, Histogram, Result

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def result() -> Result:
    return Result.model_validate_json((GOLDEN / "report_pass_full.json").read_text(encoding="utf-8"))


def draw(data: Histogram, mark: float = 1.0) -> figures.Figure | None:
    return figures.histogram(data, title="t", x_label="x", mark=mark, mark_label="floor")


def of(figure: figures.Figure, shape: str) -> list[Any]:
    return [each for each in figure.shapes if each.shape == shape]


def test_bars_are_as_high_as_their_counts() -> None:
    figure = draw(Histogram(edges=(0.0, 1.0, 2.0, 3.0), counts=(0, 10, 5)))
    heights = [bar.height for bar in of(figure, "rect")]
    assert heights[0] == 0
    assert heights[1] == pytest.approx(2 * heights[2], abs=0.2)
    assert all(bar.y + bar.height == pytest.approx(figures.BOTTOM, abs=0.1) for bar in of(figure, "rect"))


def test_the_floor_is_marked_where_it_is() -> None:
    figure = draw(Histogram(edges=(0.0, 1.0, 2.0), counts=(3, 4)))
    mark = next(line for line in of(figure, "line") if line.kind == "mark")
    assert mark.x1 == mark.x2 == pytest.approx((figures.LEFT + figures.RIGHT) / 2)
    assert of(figure, "rect")[1].x == mark.x1


def test_nothing_to_draw_is_no_figure() -> None:
    assert draw(Histogram(edges=(0.0, 1.0), counts=(0,))) is None
    assert draw(Histogram(edges=(), counts=())) is None
    assert figures.codes((), ()) is None
    assert figures.codes((0,) * 16, (0,) * 16) is None
    assert measurements.cad(()) is None
    assert measurements.depth((), layers=3, late_from=2) is None


def test_codes_show_sixteen_pairs() -> None:
    figure = figures.codes(tuple(range(16)), tuple(range(16, 0, -1)))
    bars = of(figure, "rect")[:-2]  # the last two are the key
    assert len(bars) == 32
    assert bars[0].height == 0
    assert bars[1].height == max(bar.height for bar in bars)


def test_whiskers_span_the_interval_and_hold_the_dot(result: Result) -> None:
    figure = measurements.cad(result.erasure.rows)
    spans = [line for line in of(figure, "line") if line.kind == "whisker" and line.y1 == line.y2]
    assert len(spans) == len(result.erasure.rows)
    width = figures.RIGHT - 12
    for row, span in zip(result.erasure.rows, spans, strict=True):
        assert (span.x2 - span.x1) / width == pytest.approx(row.cad.high - row.cad.low, abs=1e-3)
        assert (span.x1 - 12) / width == pytest.approx(row.cad.low, abs=1e-3)
    assert {dot.kind for dot in of(figure, "dot")} == {"solid", "hollow"}


def test_depth_leaves_out_what_was_not_measured() -> None:
    points = (DepthPoint(from_layer=1, edited=0.25), DepthPoint(from_layer=4, edited=0.75))
    figure = measurements.depth(points, layers=4, late_from=3)
    assert len(of(figure, "polyline")) == 1
    start, end = (tuple(map(float, xy.split(","))) for xy in of(figure, "polyline")[0].points.split())
    assert start[0] == figures.LEFT
    assert end[0] == figures.RIGHT
    assert start[1] > end[1]
    assert "NF4" not in figure.description


def test_depth_marks_the_floor_and_the_intervals() -> None:
    points = (
        DepthPoint(from_layer=1, edited=0.5, edited_low=0.4, edited_high=0.6),
        DepthPoint(from_layer=4, edited=0.8),
    )
    figure = measurements.depth(points, layers=4, late_from=3, floor=0.5)
    floor = next(line for line in of(figure, "line") if line.kind == "floor")
    bars = [line for line in of(figure, "line") if line.kind == "whisker"]
    assert len(bars) == 1
    assert bars[0].x1 == bars[0].x2 == figures.LEFT
    assert floor.y1 == floor.y2 == pytest.approx((bars[0].y1 + bars[0].y2) / 2, abs=0.1)
    assert "0.500" in figure.description
    assert not [line for line in of(measurements.depth(points, layers=4, late_from=3), "line") if line.kind == "floor"]


def test_axes_show_four_models_for_every_row_of_accuracy(result: Result) -> None:
    rows = [row for row in result.axes if row.unit == "accuracy" and row.axis != "ptq_gap"]
    figure = measurements.axes(result.axes, result.policy.forget_accuracy)
    assert len(of(figure, "dot")) == len(of(figure, "polygon")) == 2 * len(rows)
    assert len([line for line in of(figure, "line") if line.kind == "whisker"]) == 4 * len(rows)
    judged = [row for row in rows if row.axis == "forgetting" and row.status != "skipped"]
    assert len([line for line in of(figure, "line") if line.kind == "mark"]) == len(judged) > 0
    assert all(row.row in figure.description for row in rows)
    assert measurements.axes([row for row in result.axes if row.unit == "perplexity"], 0.1) is None


def test_everything_stays_inside_the_view_box(result: Result) -> None:
    permanence, erasure = result.permanence[0], result.erasure
    drawn = [
        draw(permanence.update_in_half_bins),
        draw(permanence.margin, mark=result.policy.margin),
        figures.codes(permanence.codes_before, permanence.codes_after),
        measurements.cad(erasure.rows),
        measurements.depth(erasure.depth, layers=erasure.layers, late_from=erasure.late_from, floor=0.4),
        measurements.axes(result.axes, result.policy.forget_accuracy),
    ]
    for figure in drawn:
        for label in of(figure, "label"):
            assert 0 <= label.x <= figure.width
            assert 0 <= label.y <= figure.height
        for bar in of(figure, "rect"):
            assert 0 <= bar.x <= bar.x + bar.width <= figure.width


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 8300, [0, 2000, 4000, 6000, 8000]), (5, 5, [5]), (0, 1e-4, None)],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float] | None) -> None:
    found = figures.ticks(low, high)
    if expected is not None:
        assert found == pytest.approx(expected)
    assert all(low <= tick <= high * (1 + 1e-9) for tick in found)
