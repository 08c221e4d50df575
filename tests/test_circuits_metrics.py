"""Metrics: plain functions of logits, and what attribution, faithfulness and the search make of them."""

from dataclasses import replace

import pytest
import torch
from test_circuits_families import tiny, tiny_pairs

from verify.circuits import (
    Metric,
    Pair,
    answer_log_probability,
    answer_logit,
    answer_minus_alternatives,
    attribute,
    faithfulness,
    full_circuit,
    patched_metric,
    random_edges,
    smallest_faithful,
)
from verify.errors import UsageError

METRICS: list[Metric] = [answer_minus_alternatives, answer_logit, answer_log_probability]


def expected(metric: Metric, logits: torch.Tensor, pair: Pair) -> float:
    if metric is answer_log_probability:
        return float(logits.log_softmax(0)[pair.answer])
    others = logits[list(pair.alternatives)].mean() if metric is answer_minus_alternatives else 0
    return float(logits[pair.answer] - others)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_what_its_name_says_and_its_input_row_is_complete(metric: Metric) -> None:
    model, pairs = tiny(), tiny_pairs()
    scores = attribute(model, pairs, metric=metric, points=64)
    assert scores.metric is metric
    assert scores.residual < 0.02
    for index, pair in enumerate(pairs):
        with torch.no_grad():
            logits = model(torch.tensor([pair.clean, pair.corrupt])).logits[:, -1].float()
        assert float(scores.metric_clean[index]) == pytest.approx(expected(metric, logits[0], pair), abs=1e-4)
        assert float(scores.metric_corrupt[index]) == pytest.approx(expected(metric, logits[1], pair), abs=1e-4)
    torch.testing.assert_close(
        patched_metric(model, pairs, full_circuit(scores.graph), metric=metric), scores.metric_clean, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("metric", METRICS)
def test_the_search_and_run_use_the_metric_that_was_attributed(metric: Metric) -> None:
    model, pairs = tiny(), tiny_pairs(6)
    scores = attribute(model, pairs, metric=metric)
    found = smallest_faithful(model, scores, pairs, target=0.8)
    again = faithfulness(model, pairs, found.circuit, metric=metric)
    assert found.faithfulness == pytest.approx(again)
    assert scores.run(found.circuit) == pytest.approx(again)


def test_metrics_differ_where_they_should() -> None:
    model, pairs = tiny(), tiny_pairs()
    found = [attribute(model, pairs, metric=metric, points=2).scores for metric in METRICS]
    circuit = random_edges(attribute(model, pairs, points=1).graph, 100, 0)
    ways = [faithfulness(model, pairs, circuit, metric=metric) for metric in METRICS]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert not torch.allclose(found[one], found[other], rtol=0.01, atol=1e-3)
        assert abs(ways[one] - ways[other]) > 1e-4


def test_only_the_contrast_needs_alternatives() -> None:
    model = tiny()
    pairs = [replace(pair, alternatives=()) for pair in tiny_pairs(3)]
    with pytest.raises(UsageError, match="no alternatives"):
        attribute(model, pairs)
    assert float(attribute(model, pairs, metric=answer_logit, points=1).scores.abs().max()) > 0


def test_a_metric_of_ones_own() -> None:
    model, pairs = tiny(), tiny_pairs()

    def twice(logits: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return 2 * answer_minus_alternatives(logits, tokens, weights)

    once = attribute(model, pairs, points=2)
    torch.testing.assert_close(attribute(model, pairs, points=2, metric=twice).scores, 2 * once.scores)
    with pytest.raises(UsageError, match="one number a prompt"):
        attribute(model, pairs, metric=lambda logits, *_: logits.sum())
