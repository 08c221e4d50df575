"""The figure of the tradeoff: what updates of each size could move by half a bin at most, and this edit below it."""

import math

from reports import wording
from reports.figures import BOTTOM, LEFT, RIGHT, TOP, Dot, Figure, Label, Line, Polyline, Scale, Shape
from verify.contract.result import Tradeoff

_MOST_TICKS = 6
_SIDE = 3.0
"""Half the side of the mark for an even spread: a square, where this edit has a dot."""
_ROOM = 150.0
"""Units that a mark's label needs beside it."""


def tradeoff(data: Tradeoff) -> Figure | None:
    """Return the bound over the norm, both logarithmic, with this edit and its norm spread evenly; None if empty.

    Counts below 1 lie on the axis.
    """
    curve = [(norm, most) for norm, most in zip(data.budgets, data.at_most, strict=False) if norm > 0 and most > 0]
    if not curve or not data.norm > 0:
        return None
    norms = [norm for norm, _ in curve] + [data.norm]
    x = Scale(math.log10(min(norms)), math.log10(max(norms)), LEFT, RIGHT)
    highest = max(data.quantized_parameters, *(most for _, most in curve), data.surviving, 10)
    y = Scale(0, math.log10(highest), BOTTOM, TOP + 6)

    def at(norm: float, many: int) -> tuple[float, float]:
        return x(math.log10(norm)), y(math.log10(max(1, many)))

    here = x(math.log10(data.norm))
    shapes: list[Shape] = [*_axes(x, y)]
    shapes.append(Polyline(" ".join(f"{a:g},{b:g}" for a, b in (at(*point) for point in curve)), "series"))
    shapes.append(Line(here, TOP, here, BOTTOM, "mark"))
    edit, even = at(data.norm, data.surviving), at(data.norm, data.even_at_most)
    square = [(even[0] + a * _SIDE, even[1] + b * _SIDE) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    shapes += [
        Polyline(" ".join(f"{a:g},{b:g}" for a, b in square), "hollow", "polygon"),
        Dot(*edit, "solid"),
        _beside(*edit, "this edit"),
        _beside(even[0], min(even[1], BOTTOM - 7), f"spread evenly: at most {wording.count(data.even_at_most)}"),
    ]
    low, high = curve[0], curve[-1]
    description = (
        f"A rising line, both scales logarithmic: at most {wording.count(low[1])} parameters at a norm of "
        f"{low[0]:.3g}, {wording.count(high[1])} at {high[0]:.3g}. At this edit's norm, {data.norm:.3g}: "
        f"{wording.count(data.bound)} at most; this edit, a dot, {wording.count(data.surviving)}; "
        f"spread evenly, a square, at most {wording.count(data.even_at_most)}. The table below has every number."
    )
    return Figure("Parameters that an update can move by half a bin", description, 200, tuple(shapes))


def rows(data: Tradeoff) -> list[tuple[str, str, str]]:
    """Return the curve as a table: norm, most parameters, and their share of all that NF4 quantizes."""
    whole = data.quantized_parameters or 1
    pairs = zip(data.budgets, data.at_most, strict=False)
    return [(f"{norm:.3g}", wording.count(most), wording.percent(most / whole)) for norm, most in pairs]


def _beside(x: float, y: float, text: str) -> Label:
    """Return a label on that side of a mark where there is room."""
    return Label(x + 7, y + 4, text, "start", "note") if x + _ROOM < RIGHT else Label(x - 7, y + 4, text, "end", "note")


def _axes(x: Scale, y: Scale) -> list[Shape]:
    shapes: list[Shape] = []
    for power in _powers(y):
        shapes.append(Line(LEFT, y(power), RIGHT, y(power), "grid"))
        shapes.append(Label(LEFT - 5, y(power) + 4, _short(power), "end"))
    shapes.append(Line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    for power in _powers(x):
        shapes.append(Line(x(power), BOTTOM, x(power), BOTTOM + 4, "axis"))
        shapes.append(Label(x(power), BOTTOM + 15, f"{10.0**power:g}"))
    shapes.append(Label((LEFT + RIGHT) / 2, BOTTOM + 32, "ℓ2 norm of the update", kind="name"))
    shapes.append(Label(4, 10, "parameters", "start", "name"))
    return shapes


def _powers(scale: Scale) -> list[int]:
    first, last = math.ceil(scale.low - 1e-9), math.floor(scale.high + 1e-9)
    return list(range(first, last + 1, max(1, math.ceil((last - first) / _MOST_TICKS))))


def _short(power: int) -> str:
    """Return a power of ten short enough for the left margin: `10k`, `1M`."""
    name = {0: "", 1: "k", 2: "M", 3: "G"}.get(power // 3)
    return f"1e{power}" if name is None else f"{10 ** (power % 3)}{name}"
