"""Circuits: choice, pruning, nodes; patching: full, empty, single edges; the search."""

import pytest
import torch
from naive_families import interpreted
from test_circuits_families import FAMILIES, tiny, tiny_pairs
from torch import nn

from verify.circuits import (
    Circuit,
    EdgeScores,
    Graph,
    attribute,
    describe,
    faithfulness,
    full_circuit,
    nodes,
    patched_metric,
    prune,
    random_edges,
    smallest_faithful,
    top_edges,
)
from verify.circuits.patching import MAX_EVALUATIONS, _search
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


@pytest.mark.parametrize("name", FAMILIES)
def test_full_circuit_is_clean_and_empty_circuit_is_corrupt(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs()
    scores = attribute(model, pairs, points=1)
    graph = scores.graph
    torch.testing.assert_close(
        patched_metric(model, pairs, full_circuit(graph)), scores.metric_clean, rtol=1e-5, atol=1e-5
    )
    empty = Circuit(graph, torch.zeros_like(graph.real))
    torch.testing.assert_close(patched_metric(model, pairs, empty), scores.metric_corrupt, rtol=1e-4, atol=1e-4)
    assert faithfulness(model, pairs, full_circuit(graph)) == pytest.approx(1, abs=1e-4)
    assert faithfulness(model, pairs, empty) == pytest.approx(0, abs=1e-4)
    assert float((scores.metric_clean - scores.metric_corrupt).abs().min()) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_patching_agrees_with_a_naive_interpreter(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs(4)
    graph = describe(model).graph
    for seed in range(3):
        circuit = random_edges(graph, int(graph.real.sum()) // 2, seed)
        found = patched_metric(model, pairs, circuit)
        wanted = torch.tensor([interpreted(model, pair, circuit) for pair in pairs])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_bfloat16_patching_keeps_the_ends() -> None:
    model, pairs = tiny().bfloat16(), tiny_pairs()
    graph = describe(model).graph
    empty = Circuit(graph, torch.zeros_like(graph.real))
    assert faithfulness(model, pairs, full_circuit(graph)) == pytest.approx(1, abs=0.1)
    assert faithfulness(model, pairs, empty) == pytest.approx(0, abs=0.1)


def test_faithfulness_refuses_what_it_cannot_measure() -> None:
    model = tiny()
    with pytest.raises(UsageError, match="another graph"):
        faithfulness(model, tiny_pairs(), full_circuit(GRAPH))
    with pytest.raises(UsageError):
        faithfulness(model, [], full_circuit(describe(model).graph))
    nn.init.zeros_(model.lm_head.weight)
    with pytest.raises(UndecidedError):
        faithfulness(model, tiny_pairs(), full_circuit(describe(model).graph))


def test_smallest_faithful_finds_a_confirmed_circuit() -> None:
    model, pairs = tiny(), tiny_pairs(6)
    scores = attribute(model, pairs)
    seen: list[tuple[int, int]] = []
    found = smallest_faithful(model, scores, pairs, target=0.8, progress=lambda *done: seen.append(done))
    assert found.reached
    assert found.faithfulness >= 0.8
    assert faithfulness(model, pairs, found.circuit) == pytest.approx(found.faithfulness)
    assert len(found.trace) <= MAX_EVALUATIONS
    assert seen == [(done, MAX_EVALUATIONS) for done in range(1, len(found.trace) + 1)]
    chosen = next(step.n for step in found.trace if step.edges == found.circuit.size)
    assert all(step.faithfulness >= 0.8 for step in found.trace if step.n >= chosen)
    assert any(step.faithfulness < 0.8 for step in found.trace if step.n < chosen)
    with pytest.raises(UsageError):
        smallest_faithful(model, scores, pairs, target=1.5)


@pytest.mark.parametrize("threshold", [2, 3, 57, 4000, 70_000, 70_651])
def test_search_is_close_and_within_budget(threshold: int) -> None:
    asked: list[int] = []

    def reaches(n: int) -> bool:
        asked.append(n)
        return n >= threshold

    found = _search(reaches, 70_651, MAX_EVALUATIONS)
    assert threshold <= found <= max(threshold + 1, threshold * 1.06)
    assert len(asked) < MAX_EVALUATIONS


def test_search_passes_over_a_bump() -> None:
    # Faithful in a short range and again from 5000 on: the bump fails its confirmation.
    def reaches(n: int) -> bool:
        return 250 <= n < 280 or n >= 5000

    found = _search(reaches, 70_651, MAX_EVALUATIONS)
    assert found >= 5000
