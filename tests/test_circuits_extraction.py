"""Greedy growth from the read-out: against a naive version, and what it promises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_circuits_circuit import GRAPH, mask, scored
from test_circuits_families import tiny, tiny_pairs

from verify.circuits import attribute, greedy_edges, prune, smallest_faithful, top_edges
from verify.errors import UndecidedError, UsageError


def naive_greedy(values: torch.Tensor, n: int) -> torch.Tensor:
    """Look at every edge again at every step."""
    chosen = torch.zeros_like(GRAPH.real)
    connected = {GRAPH.n_readers - 1}
    for _ in range(n):
        best: tuple[float, int, int] | None = None
        for writer, reader in GRAPH.real.nonzero().tolist():
            if reader in connected and not chosen[writer, reader]:
                offer = (-abs(float(values[writer, reader])), writer, reader)
                best = offer if best is None else min(best, offer)
        if best is None:
            break
        chosen[best[1], best[2]] = True
        connected |= set(GRAPH.feeds[:, best[1]].nonzero().flatten().tolist())
    return prune(GRAPH, chosen)


@given(seed=st.integers(0, 10**6), n=st.integers(0, 60), levels=st.sampled_from([2, 5, 1000]))
def test_greedy_agrees_with_a_naive_version(seed: int, n: int, levels: int) -> None:
    # few levels: many ties
    shape = (GRAPH.n_writers, GRAPH.n_readers)
    values = torch.randint(-levels, levels + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    found = greedy_edges(scored(values * GRAPH.real), n)
    assert torch.equal(found.edges, naive_greedy(values, n))
    assert found.size <= n


def test_greedy_wastes_nothing_on_edges_that_lead_nowhere() -> None:
    values = torch.zeros(GRAPH.n_writers, GRAPH.n_readers)
    strong = [("input", "a0.h0<q>"), ("input", "m0"), ("a0.h1", "m0")]
    path = [("m1", "logits"), ("input", "m1")]
    for weight, edges in ((9.0, strong), (1.0, path)):
        for writer, reader in edges:
            values[GRAPH.writers.index(writer), GRAPH.readers.index(reader)] = weight
    scores = scored(values)
    assert torch.equal(greedy_edges(scores, 2).edges, mask(*path))
    assert top_edges(scores, 2).size == 0
    assert torch.equal(greedy_edges(scores, 10**6).edges, GRAPH.real)
    assert greedy_edges(scores, 0).size == 0
    with pytest.raises(UsageError):
        greedy_edges(scores, -1)
    with pytest.raises(UndecidedError):
        greedy_edges(scored(values / 0), 1)


def test_the_search_takes_either() -> None:
    model, pairs = tiny(), tiny_pairs(6)
    scores = attribute(model, pairs)
    found = smallest_faithful(model, scores, pairs, target=0.8, extract=greedy_edges)
    assert found.faithfulness >= 0.8
    chosen = next(step for step in found.trace if step.edges == found.circuit.size)
    assert torch.equal(found.circuit.edges, greedy_edges(scores, chosen.n).edges)
    assert scores.run(found.circuit) == pytest.approx(found.faithfulness)
