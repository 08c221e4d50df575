"""The picture of a circuit: what is drawn where, on which scale, and the file that holds it."""

import re
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import render_circuit
from reports.circuit import DRAWN, circuit, drawn, tables
from reports.figures import Cell, Curve, Figure, Label, Line, Rect
from verify.contract.circuit import CircuitMap, MapEdge

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"


def small() -> CircuitMap:
    """Two layers of four heads: one head carries the answer before and turns after, one MLP works against it."""
    before, after = [0.0] * 12, [0.0] * 12
    before[2], after[2] = -2.0, 0.5
    before[5], after[5] = 1.0, 1.0
    before[0] = before[-1] = -4.0
    edges = (
        MapEdge(writer="input", reader="a0.k0<v>", before=-1.5, after=0.25),
        MapEdge(writer="a0.h1", reader="logits", before=-1.0, after=0.0),
        MapEdge(writer="m0", reader="m1", before=0.5, after=0.5),
    )
    return CircuitMap(layers=2, heads=4, kv_heads=2, before=tuple(before), after=tuple(after), edges=edges)


def of(figure: Figure, kind: type) -> list:
    return [shape for shape in figure.shapes if isinstance(shape, kind)]


def nodes(figure: Figure) -> list[Cell]:
    return [cell for cell in of(figure, Cell) if cell.y < figure.height - 55]


def edges(figure: Figure) -> list[Curve]:
    return [curve for curve in of(figure, Curve) if curve.width > 0 and "h20" not in curve.path]


def test_both_models_are_on_one_scale_and_signs_differ_by_form() -> None:
    figure = circuit(small())
    found = [(cell.strength, cell.radius > 0, cell.kind, cell.x > 180) for cell in nodes(figure)]
    assert sorted(found) == sorted(
        [
            (1.0, False, "node for", False),
            (0.707, True, "node against", False),
            (0.5, True, "node against", True),
            (0.707, True, "node against", True),
        ]
    )


def test_edges_have_the_square_root_of_their_score_as_width_and_one_that_is_gone_is_not_drawn() -> None:
    figure = circuit(small())
    widest = max(curve.width for curve in edges(figure))
    assert sorted((round((curve.width / widest) ** 2, 2), curve.kind) for curve in edges(figure)) == [
        (pytest.approx(1 / 6, abs=0.01), "edge against"),
        (pytest.approx(1 / 3, abs=0.01), "edge against"),
        (pytest.approx(1 / 3, abs=0.01), "edge against"),
        (pytest.approx(2 / 3, abs=0.01), "edge for"),
        (1.0, "edge for"),
    ]


def test_an_edge_begins_at_its_writer_and_ends_at_its_reader() -> None:
    data = small().model_copy(update={"edges": (MapEdge(writer="a0.h1", reader="m1", before=-1.0, after=0.0),)})
    figure = circuit(data)
    head = next(cell for cell in nodes(figure) if cell.kind == "node for")
    (curve,) = edges(figure)
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", curve.path)]
    assert numbers[:2] == pytest.approx([head.x + head.width / 2, head.y + head.height / 2], abs=0.2)
    mlp = next(cell for cell in nodes(figure) if cell.kind == "node against")
    assert numbers[-2] == pytest.approx(mlp.x + mlp.width / 2, abs=0.2)
    assert numbers[-1] < numbers[1]  # layers rise from the input to the logits


def test_one_model_alone_has_one_panel() -> None:
    pair = small()
    lone = tuple(edge.model_copy(update={"after": None}) for edge in pair.edges)
    data = pair.model_copy(update={"after": None, "edges": lone})
    figure = circuit(data)
    assert len([rect for rect in of(figure, Rect) if rect.kind == "port"]) == 2
    assert "edit" not in figure.title + figure.description
    assert all(row[2] == "–" for _, rows in tables(data) for row in rows)


def test_no_more_than_so_many_edges_the_strongest_on_top() -> None:
    ends = [(f"a{layer}.h{head}", f"m{layer}") for layer, head in product(range(10), range(12))]
    many = tuple(MapEdge(writer=w, reader=r, before=(i + 1) / 100) for i, (w, r) in enumerate(ends))
    data = CircuitMap(layers=10, heads=12, kv_heads=12, before=(0.0,) * 132, edges=many)
    scores = [score for _, score in drawn(data.edges, "before")]
    assert scores == sorted(scores)
    assert len(scores) == len(edges(circuit(data))) == DRAWN
    assert scores[-1] == 1.2


def test_nothing_to_show_still_draws_the_grid() -> None:
    data = CircuitMap(layers=1, heads=1, kv_heads=1, before=(0.0,) * 4, after=(0.0,) * 4, edges=())
    assert not nodes(circuit(data))
    assert "m0 0" in circuit(data).description


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_everything_lies_within_the_view_box(data: st.DataObject) -> None:
    layers, group, kv = (data.draw(st.integers(1, most)) for most in (90, 8, 8))
    heads = kv * group
    size = layers * (heads + 1) + 2
    score = st.floats(-1e3, 1e3)
    some = data.draw(st.lists(score, min_size=1, max_size=8))
    before = tuple(some[i % len(some)] for i in range(size))
    writer = st.builds("a{}.h{}".format, st.integers(0, layers - 1), st.integers(0, heads - 1)) | st.just("input")
    reader = st.builds("a{}.k{}<v>".format, st.integers(0, layers - 1), st.integers(0, kv - 1)) | st.just("logits")
    reader |= st.builds("m{}".format, st.integers(0, layers - 1))
    drawn_edges = tuple(
        data.draw(st.lists(st.builds(MapEdge, writer=writer, reader=reader, before=score, after=score)))
    )
    both = CircuitMap(layers=layers, heads=heads, kv_heads=kv, before=before, after=before, edges=drawn_edges[:120])
    figure = circuit(both)
    for shape in figure.shapes:
        if isinstance(shape, Rect | Cell):
            corners = [(shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height)]
        elif isinstance(shape, Curve):
            points = re.findall(r"(-?[\d.]+) (-?[\d.]+)", shape.path)
            corners = [(float(x), float(y)) for x, y in points]
        else:
            assert isinstance(shape, Label | Line)
            corners = [(shape.x, shape.y)] if isinstance(shape, Label) else []
        assert all(0 <= x <= figure.width and 0 <= y <= figure.height for x, y in corners)


@pytest.mark.parametrize(("layers", "heads"), [(30, 9), (16, 32), (32, 32), (80, 64)])
def test_labels_do_not_run_into_each_other(layers: int, heads: int) -> None:
    size = layers * (heads + 1) + 2
    figure = circuit(
        CircuitMap(layers=layers, heads=heads, kv_heads=1, before=(1.0,) * size, after=(1.0,) * size, edges=())
    )
    labels = [label for label in of(figure, Label) if label.kind == "small"]
    for one, two in product(labels, labels):
        if one is not two and abs(one.y - two.y) < 7:
            assert abs(one.x - two.x) >= 2.4 * (len(one.text) + len(two.text)) or one.anchor != two.anchor


def test_the_file_is_as_recorded() -> None:
    assert render_circuit(small()) == (GOLDEN / "circuit.svg").read_text(encoding="utf-8")


def test_the_file_is_whole_speaks_and_reaches_for_nothing() -> None:
    text = render_circuit(small())
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "style", "rect", "path", "text",
    }  # fmt: skip
    named = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert [*named] == (root.get("aria-labelledby") or "").split()
    assert "a0.h1 −2" in (named["circuit-desc"] or "")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|\son\w+=|href|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_notes_are_written_beneath_and_escaped() -> None:
    text = render_circuit(small(), ["one", "<script>"])
    assert "<script>" not in text
    labels = [element for element in ET.fromstring(text).iter(f"{SVG}text") if element.text in {"one", "<script>"}]
    heights = [float(label.get("y") or 0) for label in labels]
    assert len(heights) == 2
    assert circuit(small()).height - 5 < heights[0] < heights[1] < circuit(small(), ["one", "two"]).height


def test_tables_say_every_edge_and_the_strongest_nodes() -> None:
    (_, node_rows), (_, edge_rows) = tables(small())
    assert node_rows[:4] == [
        ("input", "−4", "0"), ("logits", "−4", "0"), ("a0.h1", "−2", "+0.5"), ("m0", "+1", "+1"),
    ]  # fmt: skip
    assert edge_rows == [
        ("input → a0.k0<v>", "−1.5", "+0.25"), ("a0.h1 → logits", "−1", "0"), ("m0 → m1", "+0.5", "+0.5"),
    ]  # fmt: skip


if __name__ == "__main__":
    (GOLDEN / "circuit.svg").write_text(render_circuit(small()), encoding="utf-8")
