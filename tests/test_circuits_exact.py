"""Exact edge patching as the yardstick: what it is, and that integrated gradients come closer to it than plain EAP."""

import pytest
import torch
from test_circuits_families import tiny, tiny_pairs
from transformers import LlamaConfig, LlamaForCausalLM

from verify.circuits import (
    Circuit,
    EdgeScores,
    Pair,
    answer_logit,
    attribute,
    exact_scores,
    full_circuit,
    patched_metric,
)


def test_an_edge_scores_what_cutting_it_does() -> None:
    model, pairs = tiny(), tiny_pairs(3)
    done: list[tuple[int, int]] = []
    exact = exact_scores(model, pairs, metric=answer_logit, progress=lambda *count: done.append(count))
    graph = exact.graph
    total = 2 + int(graph.real.sum())
    assert done[-1] == (total, total)
    assert exact.rule == "exact"
    row, column = exact.writers.index("a0.h3"), exact.readers.index("a2.k1<v>")
    edges = full_circuit(graph).edges
    edges[row, column] = False
    effect = patched_metric(model, pairs, Circuit(graph, edges), metric=answer_logit) - exact.metric_clean
    assert exact.per_example is not None
    torch.testing.assert_close(exact.per_example[:, row, column], effect)
    assert float(effect.abs().min()) > 0
    assert bool((exact.scores[~graph.real] == 0).all())
    torch.testing.assert_close(exact.scores, exact.per_example.mean(0))


def memorising_model() -> tuple[LlamaForCausalLM, list[Pair]]:
    """A two-layer model trained on 16 random facts, `[3, subject, relation] -> answer`, until it is sure of them."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))
    prompts = torch.tensor([[3, 4 + subject, 20 + relation] for subject in range(8) for relation in range(2)])
    answers = torch.randint(24, 40, (16,), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(prompts).logits[:, -1], answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    facts = [(tuple(prompt), int(answer)) for prompt, answer in zip(prompts.tolist(), answers, strict=True)]
    pairs = [
        Pair(clean, corrupt, answer, (other,))
        for (clean, answer), (corrupt, other) in zip(facts, facts[2:] + facts[:2], strict=True)
        if answer != other
    ]
    return model.eval(), pairs


@pytest.fixture(scope="module")
def yardstick() -> tuple[LlamaForCausalLM, list[Pair], EdgeScores]:
    model, pairs = memorising_model()
    return model, pairs, exact_scores(model, pairs)


def correlation(one: EdgeScores, other: EdgeScores) -> float:
    values = torch.stack([one.scores[one.real], other.scores[other.real]])
    return float(torch.corrcoef(values)[0, 1])


@pytest.mark.parametrize("plain", ["clean", "corrupt"])
def test_integrated_gradients_come_closer_to_patching_than_plain_eap(
    yardstick: tuple[LlamaForCausalLM, list[Pair], EdgeScores], plain: str
) -> None:
    model, pairs, exact = yardstick
    integrated = attribute(model, pairs)
    one = attribute(model, pairs, rule=plain)
    assert one.points == 1
    assert correlation(integrated, exact) > correlation(one, exact)
    assert integrated.residual < one.residual
