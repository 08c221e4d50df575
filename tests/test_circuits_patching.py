"""Patching: the full circuit, the empty one, and any other as a naive interpreter runs it."""

import pytest
import torch
from naive_families import interpreted
from test_circuits_families import FAMILIES, tiny, tiny_pairs
from torch import nn

from verify.circuits import (
    Circuit,
    Graph,
    attribute,
    describe,
    faithfulness,
    full_circuit,
    patched_metric,
    random_edges,
)
from verify.errors import UndecidedError, UsageError


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
        faithfulness(model, tiny_pairs(), full_circuit(Graph(layers=2, heads=4, kv_heads=2)))
    with pytest.raises(UsageError):
        faithfulness(model, [], full_circuit(describe(model).graph))
    nn.init.zeros_(model.lm_head.weight)
    with pytest.raises(UndecidedError):
        faithfulness(model, tiny_pairs(), full_circuit(describe(model).graph))
