"""Circuits: choice, pruning, nodes."""

import pytest
import torch

from verify.circuits import (
    Circuit,
    EdgeScores,
    Graph,
    nodes,
    prune,
    random_edges,
    top_edges,
)
from verify.errors import UndecidedError, UsageError

GRAPH = Graph(layers=2, heads=4, kv_heads=2)


def mask(*edges: tuple[str, str]) -> torch.Tensor:
    found = torch.zeros_like(GRAPH.real)
    for writer, reader in edges:
        found[GRAPH.writers.index(writer), GRAPH.readers.index(reader)] = True
    return found


def scored(values: torch.Tensor) -> EdgeScores:
    empty = torch.zeros(1)
    return EdgeScores(GRAPH, (), "midpoint", 5, values, None, None, empty, empty, 0.0)


def test_pruning_keeps_paths_through_grouped_heads() -> None:
    # kv head 1 serves heads 2 and 3, so what it reads can leave through head 3 but not through head 0.
    path = [("input", "a0.k1<v>"), ("a0.h3", "m1"), ("m1", "logits")]
    dead = [("a0.h0", "m1"), ("input", "a1.h0<q>"), ("m0", "logits"), ("a0.h3", "m0"), ("a0.h2", "a1.k0<k>")]
    assert torch.equal(prune(GRAPH, mask(*path, *dead[:3])), mask(*path))
    # With ("a0.h3", "m0") the edge m0 -> logits comes alive; a1.k0 still leads nowhere.
    assert torch.equal(prune(GRAPH, mask(*path, *dead)), mask(*path, dead[2], dead[3]))


def brute_force_prune(edges: torch.Tensor) -> torch.Tensor:
    """Remove dead edges one sweep at a time until nothing changes."""
    while True:
        fed, useful = edges.any(0), edges.any(1)
        alive = torch.zeros_like(edges)
        for writer, reader in edges.nonzero().tolist():
            source = writer == 0 or bool((fed & GRAPH.feeds[:, writer]).any())
            sink = reader == GRAPH.n_readers - 1 or bool((useful & GRAPH.feeds[reader]).any())
            alive[writer, reader] = source and sink
        if torch.equal(alive, edges):
            return alive
        edges = alive


@pytest.mark.parametrize("seed", range(8))
def test_pruning_agrees_with_brute_force(seed: int) -> None:
    edges = random_edges(GRAPH, 10 + 5 * seed, seed).edges
    assert torch.equal(prune(GRAPH, edges), brute_force_prune(edges))


def test_top_edges_takes_the_largest_by_magnitude() -> None:
    values = torch.zeros(GRAPH.n_writers, GRAPH.n_readers)
    for writer, reader, value in [("input", "m0", -3.0), ("m0", "logits", 2.0), ("m1", "logits", 1.0)]:
        values[GRAPH.writers.index(writer), GRAPH.readers.index(reader)] = value
    scores = scored(values)
    assert torch.equal(top_edges(scores, 2).edges, mask(("input", "m0"), ("m0", "logits")))
    assert top_edges(scores, 1).size == 0
    assert torch.equal(top_edges(scores, 3).edges, mask(("input", "m0"), ("m0", "logits")))
    assert torch.equal(top_edges(scores, 10**6).edges, GRAPH.real)
    with pytest.raises(UsageError):
        top_edges(scores, -1)
    with pytest.raises(UndecidedError):
        top_edges(scored(values / 0), 1)


def test_nodes_are_those_the_edges_touch() -> None:
    circuit = Circuit(GRAPH, mask(("input", "a0.k1<v>"), ("a0.h3", "a1.h2<q>"), ("a1.h2", "logits"), ("m0", "m1")))
    assert nodes(circuit) == {"input", "a0.k1", "a0.h3", "a1.h2", "logits", "m0", "m1"}
    assert nodes(Circuit(GRAPH, mask())) == set()


def test_circuits_refuse_foreign_masks() -> None:
    with pytest.raises(UsageError):
        Circuit(GRAPH, torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(UsageError):
        Circuit(GRAPH, GRAPH.real.float())
    with pytest.raises(UsageError):
        Circuit(GRAPH, torch.ones_like(GRAPH.real))


def test_random_edges_are_seeded_and_sized() -> None:
    one, same, other = (random_edges(GRAPH, 20, seed) for seed in (1, 1, 2))
    assert one.size == 20
    assert torch.equal(one.edges, same.edges)
    assert not torch.equal(one.edges, other.edges)
    with pytest.raises(UsageError):
        random_edges(GRAPH, 10**6, 0)
