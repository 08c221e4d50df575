"""The map's own rules: sizes that fit, names that lie in it, and the order of the nodes that the graph has too."""

import pytest
from pydantic import ValidationError

from verify.circuits import Graph
from verify.contract.circuit import CircuitMap, MapEdge, Place


def a_map(**changed: object) -> CircuitMap:
    whole = {"layers": 2, "heads": 4, "kv_heads": 2, "before": (0.5,) * 12, "edges": ()}
    return CircuitMap.model_validate({**whole, **changed})


def test_names_are_the_graphs_in_its_order() -> None:
    assert a_map().names == (*Graph(layers=2, heads=4, kv_heads=2).writers, "logits")


def test_every_name_of_a_graph_has_a_place() -> None:
    graph, data = Graph(layers=2, heads=4, kv_heads=2), a_map()
    assert all(data.place(name) for name in (*graph.writers[1:], *graph.readers[:-1]))
    assert data.place("input") is data.place("logits") is None
    assert data.place("m1") == Place(layer=1, first_head=None, last_head=None)
    assert data.place("a1.h3<q>") == Place(layer=1, first_head=3, last_head=3)
    assert data.place("a0.k1<v>") == Place(layer=0, first_head=2, last_head=3)


EDGE = {"writer": "input", "reader": "m0", "before": 1.0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"before": (0.5,) * 11}, "has 12 nodes"),
        ({"after": (0.5,) * 13}, "has 12 nodes"),
        ({"kv_heads": 3}, "no multiple"),
        ({"edges": ({**EDGE, "reader": "m2"},)}, "outside"),
        ({"edges": ({**EDGE, "writer": "a0.h4"},)}, "outside"),
        ({"edges": ({**EDGE, "reader": "a0.k2<k>"},)}, "outside"),
        ({"edges": ({**EDGE, "writer": "<script>"},)}, "match pattern"),
        ({"edges": ({**EDGE, "reader": "m0\n"},)}, "match pattern"),
        ({"edges": ({**EDGE, "before": float("nan")},)}, "finite"),
        ({"edges": (EDGE,), "after": (0.5,) * 12}, "compared together"),
        ({"edges": ({**EDGE, "after": 1.0},)}, "compared together"),
        ({"edges": (EDGE,) * 121}, "at most 120"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], said: str) -> None:
    assert a_map(edges=(EDGE,)).edges == (MapEdge.model_validate(EDGE),)
    with pytest.raises(ValidationError, match=said):
        a_map(**changed)
