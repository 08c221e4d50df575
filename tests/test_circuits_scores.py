"""What EdgeScores offers: typed nodes, edges by name, `run`; and head channels, attributed in the same passes."""

import copy
import gc
import pickle

import pytest
import torch
from test_circuits_families import FAMILIES, tiny, tiny_pairs

from verify.circuits import Node, attribute, faithfulness, random_edges
from verify.errors import UsageError


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("input", ("input", None, None, None)),
        ("logits", ("logits", None, None, None)),
        ("m7", ("mlp", 7, None, None)),
        ("a3.h11", ("head", 3, 11, None)),
        ("a3.h1<q>", ("head", 3, 1, "q")),
        ("a12.k0<k>", ("head", 12, 0, "k")),
        ("a0.k2<v>", ("head", 0, 2, "v")),
    ],
)
def test_a_node_is_its_name_with_parts(name: str, parts: tuple) -> None:
    node = Node(name)
    assert node == name
    assert f"{node}" == name
    assert {name: 1}[node] == 1
    for one in (node, copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert (one.kind, one.layer, one.head, one.port) == parts


@pytest.mark.parametrize("name", ["", "a3", "m", "m1.n2", "a1.h2<x>", "a1.q2", " input", "input\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no such node"):
        Node(name)


def test_writers_and_readers_are_typed() -> None:
    scores = attribute(tiny(), tiny_pairs(2), points=1)
    assert scores.writers == scores.graph.writers
    assert scores.readers == scores.graph.readers
    assert [node for node in scores.writers if node.kind == "mlp"] == ["m0", "m1", "m2"]
    assert [node for node in scores.readers if node.layer == 1 and node.port == "v"] == ["a1.k0<v>", "a1.k1<v>"]


def test_edges_by_name() -> None:
    scores = attribute(tiny(), tiny_pairs(2), points=1)
    row, column = scores.writers.index("a0.h1"), scores.readers.index("a1.k1<k>")
    assert scores.edge("a0.h1", "a1.k1<k>") == float(scores.scores[row, column]) != 0
    # heads 2 and 3 are served by key-value head 1
    assert scores.edge("a0.h1", "a1.h2<k>") == scores.edge("a0.h1", "a1.h3<k>") == scores.edge("a0.h1", "a1.k1<k>")
    assert scores.edge("a0.h1", "a1.h1<k>") == scores.edge("a0.h1", "a1.k0<k>")
    for writer, reader in [("m1", "m1"), ("a1.h0", "a1.k0<v>"), ("logits", "m1"), ("a0.h1", "a9.h0<q>")]:
        with pytest.raises(UsageError, match="no such edge"):
            scores.edge(writer, reader)


def test_run_is_faithfulness_on_these_or_other_pairs() -> None:
    model, pairs, others = tiny(), tiny_pairs(4), tiny_pairs(4, seed=1)
    scores = attribute(model, pairs, points=1)
    circuit = random_edges(scores.graph, 120, 0)
    assert scores.run(circuit) == pytest.approx(faithfulness(model, pairs, circuit))
    assert scores.run(circuit, others) == pytest.approx(faithfulness(model, others, circuit))
    assert abs(scores.run(circuit) - scores.run(circuit, others)) > 1e-4


def test_scores_do_not_keep_the_model_alive() -> None:
    model = tiny()
    scores = attribute(model, tiny_pairs(2), points=1)
    copied = pickle.loads(pickle.dumps(scores))
    assert torch.equal(copied.scores, scores.scores)
    with pytest.raises(UsageError, match="no model to run"):
        copied.run(random_edges(scores.graph, 9, 0))
    del model
    gc.collect()
    with pytest.raises(UsageError, match="is gone"):
        scores.run(random_edges(scores.graph, 9, 0))


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_sum_to_their_heads(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs()
    scores = attribute(model, pairs, points=3, channels=True)
    channels = scores.channels
    assert channels is not None
    assert channels.shape[:2] == (3, 4)
    rows = [[scores.writers.index(f"a{layer}.h{head}") for head in range(4)] for layer in range(3)]
    torch.testing.assert_close(channels.sum(2), scores.scores.sum(1)[torch.tensor(rows)], rtol=1e-3, atol=1e-4)
    assert float(channels.abs().min(2).values.max()) > 0
    # what else is asked for changes nothing
    torch.testing.assert_close(attribute(model, pairs, points=3).scores, scores.scores)
    assert attribute(model, pairs, points=1).channels is None


def test_channels_are_gradient_times_difference() -> None:
    model, pair = tiny(), tiny_pairs(1)[0]
    found = attribute(model, [pair], points=2, channels=True).channels
    assert found is not None
    layer, seen = 1, []
    hook = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    embed = model.get_input_embeddings()
    ends = [embed(torch.tensor([ids])).detach() for ids in (pair.corrupt, pair.clean)]
    total = torch.zeros(1)
    for end in ends:
        model(inputs_embeds=end)
    change = seen[0] - seen[1]
    for alpha in (0.25, 0.75):
        logits = model(inputs_embeds=torch.lerp(ends[0], ends[1], alpha).requires_grad_()).logits[0, -1]
        metric = logits[pair.answer] - logits[list(pair.alternatives)].mean()
        total = total + (torch.autograd.grad(metric, seen[-1])[0] * change).sum((0, 1)) / 2
    hook.remove()
    torch.testing.assert_close(found[layer].flatten(), total.detach(), rtol=1e-3, atol=1e-4)
