"""Figures as geometry: functions from data to shapes in the units of an SVG view box.

Nothing here writes markup; the template draws the shapes, and its automatic escaping covers every label. The view box
is as wide as a phone (360 units), so that labels keep a readable size there. Series differ by form (filled, outlined,
dashed), not by colour alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from verify.contract.result import Histogram

WIDTH = 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 350.0, 24.0, 160.0
KEY = 10.0  # baseline of the names and keys above the plot


@dataclass(frozen=True)
class Rect:
    """A bar. `kind` is the CSS class of this and of every other shape."""

    shape: ClassVar[str] = "rect"
    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Line:
    """A straight line: axis, tick, whisker or mark."""

    shape: ClassVar[str] = "line"
    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Polyline:
    """A line through points, as SVG writes them; closed if it is a polygon."""

    points: str
    kind: str
    shape: str = "polyline"


@dataclass(frozen=True)
class Dot:
    """A circle of radius 3.5."""

    shape: ClassVar[str] = "dot"
    x: float
    y: float
    kind: str


@dataclass(frozen=True)
class Label:
    """Text at a point; `anchor` is SVG's text-anchor."""

    shape: ClassVar[str] = "label"
    x: float
    y: float
    text: str
    anchor: str = "middle"
    kind: str = "tick"


@dataclass(frozen=True)
class Cell:
    """A node of a grid: a box around its centre, rounded by `radius`, filled as far as `strength` (0 to 1) says."""

    shape: ClassVar[str] = "cell"
    x: float
    y: float
    width: float
    height: float
    radius: float
    strength: float
    kind: str


@dataclass(frozen=True)
class Curve:
    """A path, as SVG writes it, of the given line width."""

    shape: ClassVar[str] = "curve"
    path: str
    width: float
    kind: str


Shape = Rect | Line | Polyline | Dot | Label | Cell | Curve


@dataclass(frozen=True)
class Figure:
    """Shapes with the title and the description that a screen reader speaks in their place."""

    title: str
    description: str
    height: float
    shapes: tuple[Shape, ...]
    width: float = WIDTH


@dataclass(frozen=True)
class Scale:
    """A linear map from data to view box: `low` lands on `start`, `high` on `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of `value`, kept within the scale's ends, to a tenth of a unit."""
        span = (self.high - self.low) or 1.0
        share = min(1.0, max(0.0, (value - self.low) / span))
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about `wanted` round numbers (steps of 1, 2 or 5 times a power of ten) within `low` to `high`."""
    if high <= low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def histogram(data: Histogram, *, title: str, x_label: str, mark: float, mark_label: str) -> Figure | None:
    """Return a bar for every bin and a dashed line at `mark`; None if there is nothing to draw."""
    if not any(data.counts):
        return None
    bins = list(zip(pairwise(data.edges), data.counts, strict=False))
    x = Scale(min(data.edges[0], mark), data.edges[-1], LEFT, RIGHT)
    y = Scale(0, max(data.counts), BOTTOM, TOP + 12)
    bars = [Rect(x(a), y(n), round(max(0.5, x(b) - x(a) - 1), 1), round(BOTTOM - y(n), 1), "bar") for (a, b), n in bins]
    position = x(mark)
    flip = position > (LEFT + RIGHT) / 2
    note = Label(position + (-4 if flip else 4), TOP + 5, mark_label, "end" if flip else "start", "note")
    (low, high), most = max(bins, key=lambda entry: entry[1])
    description = (
        f"Histogram of {x_label}, {data.edges[0]:g} to {data.edges[-1]:g}; the last bar also counts what lies beyond. "
        f"The highest bar holds {most:,} values from {low:g} to {high:g}. Marked: {mark_label}."
    )
    axes = frame(x, y, x_label, "masked values")
    return Figure(title, description, 200, (*axes, *bars, Line(position, TOP - 4, position, BOTTOM, "mark"), note))


def codes(before: Sequence[int], after: Sequence[int]) -> Figure | None:
    """Return paired bars for the NF4 codes of the masked values: outlined before, filled after; None if empty."""
    if not any(before) and not any(after):
        return None
    highest = max(*before, *after)
    x, y = Scale(-0.5, 15.5, LEFT, RIGHT), Scale(0, highest, BOTTOM, TOP + 12)
    shapes: list[Shape] = [*frame(None, y, "NF4 code", "masked values")]
    for code, (old, new) in enumerate(zip(before, after, strict=False)):
        shapes += [
            Rect(x(code) - 8, y(old), 7, round(BOTTOM - y(old), 1), "bar before"),
            Rect(x(code), y(new), 7, round(BOTTOM - y(new), 1), "bar"),
            Label(x(code), BOTTOM + 13, str(code)),
        ]
    shapes += [
        Rect(RIGHT - 120, KEY - 8, 9, 9, "bar before"),
        Label(RIGHT - 107, KEY, "before", "start", "note"),
        Rect(RIGHT - 50, KEY - 8, 9, 9, "bar"),
        Label(RIGHT - 37, KEY, "after", "start", "note"),
    ]
    description = (
        "Paired bars for the codes 0 to 15: outlined before the edit, filled after it. "
        f"The highest bar holds {highest:,} values. The table below has every number."
    )
    return Figure("NF4 codes of the masked values, before and after", description, 200, tuple(shapes))


def frame(x: Scale | None, y: Scale, x_label: str, y_label: str) -> Iterable[Shape]:
    """Yield the grid lines, ticks and names of a plot; without `x`, only the x axis and its name."""
    for tick in ticks(y.low, y.high):
        text = f"{tick:.1f}" if y.high <= 1 else _thousands(tick)
        yield Line(LEFT, y(tick), RIGHT, y(tick), "grid")
        yield Label(LEFT - 5, y(tick) + 4, text, "end")
    yield Line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")
    if x is not None:
        for tick in ticks(x.low, x.high, 6):
            yield Line(x(tick), BOTTOM, x(tick), BOTTOM + 4, "axis")
            yield Label(x(tick), BOTTOM + 15, f"{tick:g}")
    yield Label((LEFT + RIGHT) / 2, BOTTOM + 32, x_label, kind="name")
    yield Label(4, KEY, y_label, "start", "name")


def _thousands(value: float) -> str:
    """Return a count short enough for the left margin: `12k` for 12,000."""
    return f"{value:g}" if value < 10_000 else f"{value / 1000:g}k"
