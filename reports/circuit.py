"""The map of a circuit as a figure: layers from the input up to the logits, heads and the MLP beside each other.

Where a model was edited, both are drawn side by side on the same scales. Signs differ by form (square and solid, round
and dashed), not by colour alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.figures import Cell, Curve, Figure, Label, Rect, Shape
from verify.contract.circuit import CircuitMap, MapEdge, Place

WIDTH = 360.0
DRAWN = 60
"""Most edges drawn of one model."""

_LEFT, _RIGHT, _GUTTER, _ARCS = 26.0, 4.0, 16.0, 20.0
_TOP, _BAR, _GAP, _FEET = 20.0, 15.0, 9.0, 19.0
_MLPS = 26.0  # room for the column of MLPs, apart from the heads
_FAINTEST, _THINNEST, _WIDEST = 0.12, 0.3, 5.0
_NAMED = 5  # nodes that the description names
_LISTED = 20  # nodes that the table lists


@dataclass(frozen=True)
class _Panel:
    """Where the nodes of one model stand. `pitch` are the distances between heads and between layers."""

    map: CircuitMap
    left: float
    width: float
    pitch_x: float
    pitch_y: float

    @property
    def top(self) -> float:
        """Upper edge of the highest layer's row."""
        return _TOP + _BAR + _GAP

    @property
    def bottom(self) -> float:
        """Lower edge of the lowest layer's row."""
        return self.top + self.map.layers * self.pitch_y

    @property
    def right(self) -> float:
        """Right edge of the column of MLPs, where their arcs begin."""
        return self.left + self.width - _ARCS

    def x(self, head: float | None) -> float:
        """Return the centre of a head's column, or of the MLPs'."""
        if head is None:
            return self.right - 9
        return self.left + (head + 0.5) * self.pitch_x

    def y(self, layer: int) -> float:
        """Return the centre of a layer's row."""
        return self.bottom - (layer + 0.5) * self.pitch_y

    def centre(self, place: Place) -> tuple[float, float]:
        """Return the centre of a node; of a key-value head, that of the heads it serves."""
        if place.first_head is None or place.last_head is None:
            return self.x(None), self.y(place.layer)
        return self.x((place.first_head + place.last_head) / 2), self.y(place.layer)


def circuit(data: CircuitMap, notes: Sequence[str] = ()) -> Figure:
    """Return the figure of a map: one panel, or the model before and after its edit; `notes` are lines beneath it."""
    sides = [("before", data.before)] if data.after is None else [("before", data.before), ("after", data.after)]
    width = (WIDTH - _LEFT - _RIGHT - _GUTTER * (len(sides) - 1)) / len(sides)
    pitch_x = (width - _ARCS - _MLPS) / data.heads
    pitch_y = min(16.0, max(6.0, 420 / data.layers))
    strongest_node = max((abs(score) for _, scores in sides for score in scores[1:-1]), default=0.0)
    strongest_edge = max((abs(score) for edge in data.edges for score in _both(edge)), default=0.0)
    shapes: list[Shape] = []
    panels = [_Panel(data, _LEFT + place * (width + _GUTTER), width, pitch_x, pitch_y) for place in range(len(sides))]
    for panel, (name, scores) in zip(panels, sides, strict=True):
        if data.after is not None:
            shapes.append(Label(panel.left, _TOP - 9, f"{name} the edit", "start", "note"))
        shapes += _frame(panel, scores)
        shapes += _edges(panel, drawn(data.edges, name), strongest_edge)
        shapes += _nodes(panel, scores, strongest_node)
    shapes += _layer_labels(panels[0])
    foot = panels[0].bottom + _FEET + _BAR + 16
    shapes += _key(foot, strongest_node, strongest_edge)
    shapes += [Label(_LEFT, round(foot + 41 + 12 * row, 1), note, "start", "small") for row, note in enumerate(notes)]
    title = "The circuit" if data.after is None else "The circuit before and after the edit"
    return Figure(title, description(data), round(foot + 36 + 12 * len(notes), 1), tuple(shapes))


def drawn(edges: Sequence[MapEdge], side: str) -> list[tuple[MapEdge, float]]:
    """Return the strongest edges of one side with their scores, the weakest first, so that it lies beneath."""
    scored = [(edge, score) for edge in edges if (score := edge.before if side == "before" else edge.after)]
    return sorted(scored, key=lambda entry: -abs(entry[1]))[:DRAWN][::-1]


def description(data: CircuitMap) -> str:
    """Return what the figure shows, in words."""
    layers = f"{data.layers} layers, from the input below to the logits above, each with {data.heads} heads and an MLP"
    said = [f"A grid of {layers}, filled by their direct attribution, with the strongest edges between them."]
    sides = [("Strongest", data.before)] if data.after is None else [("Before", data.before), ("After", data.after)]
    for name, scores in sides:
        ranked = sorted(zip(data.names[1:-1], scores[1:-1], strict=True), key=lambda entry: -abs(entry[1]))
        said.append(f"{name}: {', '.join(f'{node} {signed(score)}' for node, score in ranked[:_NAMED])}.")
    return " ".join(said)


def tables(data: CircuitMap) -> tuple[tuple[str, list[tuple[str, str, str]]], ...]:
    """Return the figure's numbers as two tables: a caption, and rows of a name, before and after."""
    after = data.after or (None,) * len(data.before)
    nodes = list(zip(data.names, data.before, after, strict=True))
    edges = [(f"{edge.writer} → {edge.reader}", edge.before, edge.after) for edge in data.edges]
    inner = sorted(nodes[1:-1], key=_size)[:_LISTED]
    return (
        (f"Scores of the input, the logits and the {len(inner)} strongest nodes", _rows([nodes[0], nodes[-1], *inner])),
        ("Scores of the strongest edges", _rows(sorted(edges, key=_size))),
    )


def _size(row: tuple[str, float, float | None]) -> float:
    """Order the largest score on either side first."""
    return -max(abs(row[1]), abs(row[2] or 0.0))


def _rows(rows: Sequence[tuple[str, float, float | None]]) -> list[tuple[str, str, str]]:
    return [(name, signed(before), "–" if after is None else signed(after)) for name, before, after in rows]


def share(score: float, strongest: float) -> float:
    """Return how much of the full fill or width a score gets: the square root, so that weak ones can be told apart."""
    return math.sqrt(abs(score) / strongest) if strongest else 0.0


def signed(value: float) -> str:
    """Return a score to three significant digits, with its sign and without exponents for the sizes that occur."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def _both(edge: MapEdge) -> tuple[float, ...]:
    return (edge.before,) if edge.after is None else (edge.before, edge.after)


def _frame(panel: _Panel, scores: Sequence[float]) -> Iterator[Shape]:
    """Yield the input and logits with their scores, a stripe for every second layer, and the columns' names."""
    for text, y, score in (
        ("logits", panel.top - _GAP - _BAR, scores[-1]),
        ("input", panel.bottom + _FEET, scores[0]),
    ):
        yield Rect(panel.left, round(y, 1), round(panel.right - panel.left, 1), _BAR, "port")
        yield Label(round((panel.left + panel.right) / 2, 1), round(y + 11, 1), f"{text} {signed(score)}", kind="small")
    yield Label(round(panel.x(None), 1), round(panel.bottom + 10, 1), "MLP", kind="small")
    for head in _labelled(panel.map.heads, panel.pitch_x, 12):
        if panel.x(None) - panel.x(head) >= 16:
            yield Label(round(panel.x(head), 1), round(panel.bottom + 10, 1), str(head), kind="small")
    for layer in range(0, panel.map.layers, 2):
        y = round(panel.y(layer) - panel.pitch_y / 2, 1)
        yield Rect(panel.left, y, round(panel.right - panel.left, 1), round(panel.pitch_y, 1), "stripe")


def _layer_labels(panel: _Panel) -> Iterator[Shape]:
    """Yield the layers' numbers, and what the two axes count."""
    yield Label(_LEFT - 4, round(panel.top - _GAP + 3, 1), "layer", "end", "small")
    yield Label(_LEFT - 4, round(panel.bottom + 10, 1), "head", "end", "small")
    for layer in _labelled(panel.map.layers, panel.pitch_y, 9):
        yield Label(_LEFT - 4, round(panel.y(layer) + 3, 1), str(layer), "end", "small")


def _labelled(count: int, pitch: float, room: float) -> range:
    """Return the numbers that are written at an axis, as many as there is room for."""
    return range(0, count, next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * pitch >= room))


def _nodes(panel: _Panel, scores: Sequence[float], strongest: float) -> Iterator[Shape]:
    """Yield the nodes whose score shows on the common scale."""
    height = panel.pitch_y * 0.72
    head_width = min(panel.pitch_x * 0.8, 1.5 * height)
    for name, score in zip(panel.map.names[1:-1], scores[1:-1], strict=True):
        place = panel.map.place(name)
        assert place is not None
        x, y = panel.centre(place)
        if share(score, strongest) >= _FAINTEST:
            width = 12.0 if place.first_head is None else head_width
            yield _cell(x, y, width, height, score, strongest)


def _cell(x: float, y: float, width: float, height: float, score: float, strongest: float) -> Cell:
    return Cell(
        round(x - width / 2, 1),
        round(y - height / 2, 1),
        round(width, 1),
        round(height, 1),
        0 if score < 0 else round(min(width, height) / 2, 1),
        round(share(score, strongest), 3),
        "node for" if score < 0 else "node against",
    )


def _edges(panel: _Panel, edges: Sequence[tuple[MapEdge, float]], strongest: float) -> Iterator[Shape]:
    for edge, score in edges:
        width = max(_THINNEST, _WIDEST * share(score, strongest))
        yield Curve(_path(panel, edge), round(width, 2), "edge for" if score < 0 else "edge against")


def _path(panel: _Panel, edge: MapEdge) -> str:
    """Return the way of an edge: a curve from below, or an arc beside the column when both ends are MLPs."""
    start, end = panel.map.place(edge.writer), panel.map.place(edge.reader)
    middle = (panel.left + panel.right) / 2
    x2, y2 = panel.centre(end) if end else (middle, panel.top - _GAP)
    x1, y1 = panel.centre(start) if start else (middle, panel.bottom + _FEET)
    if start and end and math.isclose(x1, x2):
        bow = x1 + min(_ARCS * 1.7, 12 + 0.12 * (y1 - y2))
        return f"M{x1:.1f} {y1:.1f}C{bow:.1f} {y1:.1f} {bow:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    half = (y1 + y2) / 2
    return f"M{x1:.1f} {y1:.1f}C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"


def _key(top: float, strongest_node: float, strongest_edge: float) -> Iterator[Shape]:
    """Yield what form, fill and width mean, each at a sixteenth, a quarter and the whole of the strongest score."""
    rows = (("for", -1, "carries the answer (score below 0)"), ("against", 1, "works against it (above 0)"))
    for row, (kind, sign, text) in enumerate(rows):
        y = top + 14 * row
        for step in range(3):
            x, part = _LEFT + 10 + 26 * step, 0.25 ** (2 - step)
            yield _cell(x, y - 3, 12, 10, sign * part, 1.0)
            left = _LEFT + 84 + 26 * step
            yield Curve(f"M{left:g} {y - 3:g}h20", _WIDEST * share(part, 1.0), f"edge {kind}")
        yield Label(_LEFT + 166, y, text, "start", "small")
    for step in range(3):
        part = 0.25 ** (2 - step)
        yield Label(_LEFT + 10 + 26 * step, top + 27, f"{part * strongest_node:.2g}", kind="small")
        yield Label(_LEFT + 94 + 26 * step, top + 27, f"{part * strongest_edge:.2g}", kind="small")
    yield Label(_LEFT + 166, top + 27, "node and edge scores, in logits", "start", "small")
