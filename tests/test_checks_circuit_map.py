"""The map of edge scores: every node's sum, the strongest edges of either model, four digits."""

from dataclasses import replace

import pytest
import torch
from test_circuits_families import tiny, tiny_pairs

from verify.checks.circuit_map import circuit_map
from verify.circuits import EdgeScores, Graph, attribute, top_edges
from verify.errors import UndecidedError, UsageError


@pytest.fixture(scope="module")
def scores() -> EdgeScores:
    return attribute(tiny(), tiny_pairs())


@pytest.fixture(scope="module")
def others() -> EdgeScores:
    return attribute(tiny(seed=1), tiny_pairs())


def test_a_node_has_the_sum_of_its_edges_and_the_logits_of_what_they_read(scores: EdgeScores) -> None:
    data = circuit_map(scores)
    assert data.names[:-1] == scores.writers
    assert data.before[:-1] == pytest.approx(scores.scores.sum(1).tolist(), rel=1e-3)
    assert data.before[-1] == pytest.approx(float(scores.scores[:, -1].sum()), rel=1e-3)
    assert data.after is None
    moved = scores.metric_corrupt - scores.metric_clean
    allowed = scores.residual * float(moved.abs().mean())
    assert abs(data.before[0] - float(moved.mean())) <= allowed * 1.001


def test_edges_are_the_strongest_of_either_model(scores: EdgeScores, others: EdgeScores) -> None:
    data = circuit_map(scores, others, edges=5)
    got = {(edge.writer, edge.reader): (edge.before, edge.after) for edge in data.edges}
    wanted = set()
    for side in (scores, others):
        order = side.scores.abs().flatten().argsort(descending=True)[:5].tolist()
        wanted |= {(side.writers[i // len(side.readers)], side.readers[i % len(side.readers)]) for i in order}
    assert set(got) == wanted
    for (writer, reader), (before, after) in got.items():
        row, column = scores.writers.index(writer), scores.readers.index(reader)
        assert before == pytest.approx(float(scores.scores[row, column]), rel=1e-3)
        assert after == pytest.approx(float(others.scores[row, column]), rel=1e-3)


def test_scores_are_rounded_and_edges_of_no_score_left_out(scores: EdgeScores) -> None:
    kept = torch.zeros_like(scores.scores)
    kept[0, -1] = -1 / 3
    data = circuit_map(replace(scores, scores=kept))
    assert [(edge.writer, edge.reader, edge.before) for edge in data.edges] == [("input", "logits", -0.3333)]
    assert data.before[0] == data.before[-1] == -0.3333


def test_an_edge_that_does_not_exist_is_never_drawn(scores: EdgeScores) -> None:
    loud = torch.where(scores.real, scores.scores, torch.tensor(1e6))
    assert circuit_map(replace(scores, scores=loud)).edges == circuit_map(scores).edges
    assert top_edges(scores, 3).size <= 3


def test_what_cannot_be_drawn_is_refused(scores: EdgeScores) -> None:
    with pytest.raises(UsageError):
        circuit_map(scores, replace(scores, graph=Graph(layers=1, heads=1, kv_heads=1)))
    for broken in (float("nan"), float("inf")):
        bad = replace(scores, scores=scores.scores.clone().fill_(broken))
        with pytest.raises(UndecidedError):
            circuit_map(bad)
        with pytest.raises(UndecidedError):
            circuit_map(scores, bad)
