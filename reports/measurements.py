"""Figures of what was measured on the models: CAD, its depth profile, and accuracy, with 95 % intervals.

Filled marks are the edited model, outlined ones the base or a control; form tells precision or set.
"""

from collections.abc import Iterable, Sequence

from reports import wording
from reports.figures import (
    BOTTOM,
    KEY,
    LEFT,
    RIGHT,
    TOP,
    Dot,
    Figure,
    Label,
    Line,
    Polyline,
    Scale,
    Shape,
    frame,
    ticks,
)
from verify.contract.result import AxisRow, CadRow, DepthPoint
from verify.contract.schema import Estimate

LABEL_CHARACTERS = 64


def cad(rows: Sequence[CadRow]) -> Figure | None:
    """Return a dot with its 95 % interval for every row, edited model filled, controls outlined; None if empty."""
    if not rows:
        return None
    pitch, left, top = 29.0, 12.0, 4.0
    bottom = top + pitch * len(rows)
    x = Scale(0, 1, left, RIGHT)
    shapes: list[Shape] = [Line(left, bottom, RIGHT, bottom, "axis")]
    for tick in ticks(0, 1):
        shapes += [Line(x(tick), top, x(tick), bottom, "grid"), Label(x(tick), bottom + 14, f"{tick:.1f}")]
    for index, row in enumerate(rows):
        y = top + pitch * index + 20
        kind = "hollow" if "control" in row.role else "solid"
        centre = x(row.cad.value)
        shapes += [
            Label(left, y - 10, _short(wording.cad_label(row)), "start", "note"),
            Line(x(row.cad.low), y, x(row.cad.high), y, "whisker"),
            Line(x(row.cad.low), y - 4, x(row.cad.low), y + 4, "whisker"),
            Line(x(row.cad.high), y - 4, x(row.cad.high), y + 4, "whisker"),
            _square(centre, y, kind) if row.role.startswith("retain") else Dot(centre, y, kind),
        ]
    shapes.append(Label((left + RIGHT) / 2, bottom + 30, "CAD: 0 as the base, 1 erased or inverted", kind="name"))
    spoken = "; ".join(f"{wording.cad_label(row)}: {wording.decimal(row.cad.value)}" for row in rows)
    description = f"Dots with 95 percent intervals on a scale from 0 to 1. {spoken}."
    return Figure("CAD with its intervals", description, bottom + 38, tuple(shapes))


def axes(rows: Sequence[AxisRow], most: float) -> Figure | None:
    """Return base and edited model on every row of accuracy, with intervals; None if there is none.

    `most` is what the policy lets the forget set keep; it is marked on the rows that are judged by it.
    """
    drawn = [row for row in rows if row.unit == "accuracy" and row.axis != "ptq_gap"]
    if not drawn:
        return None
    pitch, left, top = 50.0, 12.0, 4.0
    bottom = top + pitch * len(drawn)
    x = Scale(0, 1, left, RIGHT)
    shapes: list[Shape] = [Line(left, bottom, RIGHT, bottom, "axis")]
    for tick in ticks(0, 1):
        shapes += [Line(x(tick), top, x(tick), bottom, "grid"), Label(x(tick), bottom + 14, f"{tick:.1f}")]
    for index, row in enumerate(drawn):
        y = top + pitch * index
        shapes.append(Label(left, y + 10, _short(f"{wording.AXIS[row.axis]}: {row.row}"), "start", "note"))
        if row.axis == "forgetting" and row.status != "skipped":
            shapes.append(Line(x(most), y + 14, x(most), y + 46, "mark"))
        for offset, before, after, square in (
            (22.0, row.base, row.edited, False),
            (38.0, row.base_nf4, row.edited_nf4, True),
        ):
            shapes += _measured(x, before, y + offset, "hollow", square=square)
            shapes += _measured(x, after, y + offset + 5, "solid", square=square)
    shapes.append(Label((left + RIGHT) / 2, bottom + 30, "accuracy, a share of the items", kind="name"))
    spoken = "; ".join(
        f"{row.row}: base {wording.decimal(row.base.value)}, in NF4 {wording.decimal(row.base_nf4.value)}, "
        f"edited {wording.decimal(row.edited.value)}, in NF4 {wording.decimal(row.edited_nf4.value)}"
        for row in drawn
    )
    description = f"Dots with 95 percent intervals on a scale from 0 to 1. {spoken}. The table below has every number."
    return Figure("Base and edited model, accuracy", description, bottom + 38, tuple(shapes))


def _measured(x: Scale, estimate: Estimate, y: float, kind: str, *, square: bool) -> Iterable[Shape]:
    """Yield the interval of an estimate and its value upon it."""
    yield Line(x(estimate.low), y, x(estimate.high), y, "whisker")
    yield _square(x(estimate.value), y, kind) if square else Dot(x(estimate.value), y, kind)


def depth(points: Sequence[DepthPoint], *, layers: int, late_from: int, floor: float | None = None) -> Figure | None:
    """Return the depth profile: CAD over the first layer taken from the reference, a line per model; None if empty.

    `floor` is the split-half floor of CAD, drawn as a line; bars are intervals, where the points have them.
    """
    if not points:
        return None
    places = [point.from_layer for point in points]
    x = Scale(min(places), max(*places, layers), LEFT, RIGHT)
    y = Scale(0, 1, BOTTOM, TOP + 18)
    series = {
        "edited": [(point.from_layer, point.edited) for point in points],
        "edited, NF4": [(point.from_layer, point.edited_nf4) for point in points if point.edited_nf4 is not None],
        "base in NF4": [(point.from_layer, point.control_nf4) for point in points if point.control_nf4 is not None],
    }
    shapes: list[Shape] = [*frame(x, y, "reference layers from this one on", "CAD")]
    late = x(late_from)
    shapes += [Line(late, TOP + 6, late, BOTTOM, "mark"), Label(late - 4, BOTTOM - 5, "late", "end", "note")]
    if floor is not None:
        shapes.append(Line(LEFT, y(floor), RIGHT, y(floor), "floor"))
        shapes.append(Label(x(late_from) - 4, y(floor) - 4, f"split-half floor {floor:.2f}", "end", "note"))
    for point in points:
        if point.edited_low is not None and point.edited_high is not None:
            shapes.append(
                Line(x(point.from_layer), y(point.edited_low), x(point.from_layer), y(point.edited_high), "whisker")
            )
    drawn = [(name, values, form) for (name, values), form in zip(series.items(), _FORMS, strict=True) if values]
    for place, (name, values, form) in enumerate(drawn):
        dots = [(x(layer), y(value)) for layer, value in values]
        shapes.append(Polyline(_points(dots), f"series {form}"))
        key = LEFT + 8 + place * 102
        shapes += [Line(key - 10, KEY - 4, key + 10, KEY - 4, f"series {form}")]
        shapes += [_marker(form, *dot) for dot in (*dots, (key, KEY - 4))]
        shapes.append(Label(key + 14, KEY, name, "start", "note"))
    description = (
        f"Lines for {', '.join(name for name, _, _ in drawn)}: CAD when the read-out and the layers from the given one "
        f"on are the reference's. The dashed line marks layer {late_from}, where the late layers begin. "
        f"{'' if floor is None else f'A level line marks the split-half floor, {floor:.3f}. '}"
        "The table below has every number."
    )
    return Figure("Depth profile of CAD", description, 200, tuple(shapes))


_FORMS = ("edited", "nf4", "control")


def _short(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…"


def _points(dots: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in dots)


def _square(x: float, y: float, kind: str) -> Polyline:
    return Polyline(_points([(x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3)]), kind, "polygon")


def _marker(form: str, x: float, y: float) -> Shape:
    """Return the marker of a series: dot, square or triangle, so that grey prints keep them apart."""
    if form == "edited":
        return Dot(x, y, "solid")
    if form == "nf4":
        return _square(x, y, "hollow")
    return Polyline(_points([(x, y - 4), (x + 4, y + 3), (x - 4, y + 3)]), "hollow", "polygon")
