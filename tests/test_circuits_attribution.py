"""Attribution: the invariants of docs/cad.md, batching, dtypes and errors."""

import math
from dataclasses import replace

import pytest
import torch
from test_circuits_families import FAMILIES, NEURAL, SMOOTH, VOCABULARY, tiny, tiny_pairs
from torch import nn

from verify.circuits import Pair, attribute, describe, full_circuit, patched_metric
from verify.circuits.attribution import integration_points
from verify.circuits.circuit import Circuit
from verify.errors import UsageError


def plain_metric(model: nn.Module, ids: tuple[int, ...], pair: Pair) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].float()
    return float(logits[pair.answer] - logits[list(pair.alternatives)].mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_metrics_are_those_of_the_plain_model(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs()
    scores = attribute(model, pairs, points=1)
    for index, pair in enumerate(pairs):
        assert float(scores.metric_clean[index]) == pytest.approx(plain_metric(model, pair.clean, pair), abs=1e-4)
        assert float(scores.metric_corrupt[index]) == pytest.approx(plain_metric(model, pair.corrupt, pair), abs=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_input_row_is_complete_as_points_grow(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs()
    coarse, fine = (attribute(model, pairs, points=points, per_example=True) for points in (2, 128))
    assert fine.residual < 0.01
    assert fine.residual < coarse.residual
    assert fine.per_example is not None
    torch.testing.assert_close(
        fine.per_example[:, 0].sum(-1), fine.metric_corrupt - fine.metric_clean, rtol=0.05, atol=0.05
    )


def node_activations(model: nn.Module, embeddings: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What each attention and each MLP holds, alternating by layer, and the logits at the last position.

    These are the inputs of output and down projections; where post-norms follow, or experts, the layer's writings.
    """
    seen: list[torch.Tensor] = []
    hooks = []
    for site in describe(model).sites:
        for writer, post, projection in (
            (site.attention_writer, site.attention_post, site.output),
            (site.mlp_writer, site.mlp_post, site.down),
        ):
            if post is None and projection is not None:
                module = model.get_submodule(projection)
                hooks.append(module.register_forward_pre_hook(lambda _, args: seen.append(args[0])))
            else:
                module = model.get_submodule(writer)
                hooks.append(module.register_forward_hook(lambda _, __, output: seen.append(output)))
    logits = model(inputs_embeds=embeddings).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return [embeddings, *seen], logits


def direct_attribution(model: nn.Module, pair: Pair, points: int) -> list[torch.Tensor]:
    """(activation difference) · (mean gradient at the node), by ordinary autograd on the whole prompts, per channel."""
    with torch.no_grad():
        clean, corrupt = (model.get_input_embeddings()(torch.tensor([ids])) for ids in (pair.clean, pair.corrupt))
        before, after = node_activations(model, clean)[0], node_activations(model, corrupt)[0]
    products = [torch.zeros(node.shape[-1]) for node in before]
    for step in range(points):
        point = torch.lerp(corrupt, clean, (step + 0.5) / points).requires_grad_()
        live, logits = node_activations(model, point)
        metric = logits[pair.answer] - logits[list(pair.alternatives)].mean()
        for index, gradient in enumerate(torch.autograd.grad(metric, live)):
            products[index] += ((after[index] - before[index]) * gradient).sum((0, 1)) / points
    return products


@pytest.mark.parametrize("name", FAMILIES)
def test_row_sums_equal_direct_node_attribution(name: str) -> None:
    """Head by head and MLP by MLP; after a post-norm, which mixes heads, for each attention as a whole."""
    model, pair = tiny(name), tiny_pairs(2)[1]
    scores = attribute(model, [pair], points=3)
    heads = 1 if name.startswith("gemma") else scores.graph.heads
    products = direct_attribution(model, pair, 3)
    rows = [products[0].sum()[None]]
    rows += [product.view(1 if index % 2 else heads, -1).sum(1) for index, product in enumerate(products[1:])]
    found = [scores.scores[:1].sum(1)]
    for layer in range(3):
        found.append(scores.scores[scores.graph.head_rows(layer)].sum(1).view(heads, -1).sum(1))
        found.append(scores.scores[scores.graph.mlp_row(layer)].sum()[None])
    expected = torch.cat(rows)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-3, atol=1e-4)
    assert float(expected.abs().min()) > 1e-6
    assert float(expected.abs().median()) > 1e-2


@pytest.mark.parametrize("name", NEURAL)
def test_neurons_are_those_of_autograd_and_sum_to_their_mlp(name: str) -> None:
    model, pair = tiny(name), tiny_pairs(2)[1]
    scores = attribute(model, [pair], points=3, neurons=True)
    assert scores.neurons is not None
    mlps = [scores.writers.index(f"m{layer}") for layer in range(3)]
    torch.testing.assert_close(scores.neurons.sum(1), scores.scores[mlps].sum(1), rtol=1e-3, atol=1e-4)
    if not name.startswith("gemma"):
        neurons = torch.stack(direct_attribution(model, pair, 3)[2::2])
        torch.testing.assert_close(scores.neurons, neurons, rtol=1e-3, atol=1e-4)


def test_experts_have_no_neurons() -> None:
    with pytest.raises(UsageError, match="mixture of experts"):
        attribute(tiny("mixtral"), tiny_pairs(), neurons=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_small_corruptions_are_predicted_edge_by_edge(name: str) -> None:
    """With a corrupt embedding close to the clean one, each score is the exact effect of patching that edge."""
    model = tiny(name)
    pair = Pair((5, 9, 2, 7), (5, 11, 2, 7), 3, (4, 8))
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
        # The error of a first-order score is proportional to this step: 0.8 % at 1e-3, 0.2 % at 3e-4.
        embedding[11] = embedding[9] + 3e-4 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    scores = attribute(model, [pair], points=1)
    graph = scores.graph
    full = full_circuit(graph)
    clean = float(patched_metric(model, [pair], full)[0])
    strongest = scores.scores.abs().flatten().argsort(descending=True)[:12].tolist()
    generator = torch.Generator().manual_seed(0)
    cells = graph.real.flatten().nonzero().flatten()
    chosen = strongest + cells[torch.randperm(len(cells), generator=generator)[:8]].tolist()
    scale = float(scores.scores.abs().max())
    for cell in chosen:
        edges = full.edges.clone()
        edges.view(-1)[cell] = False
        effect = float(patched_metric(model, [pair], Circuit(graph, edges))[0]) - clean
        assert effect == pytest.approx(float(scores.scores.flatten()[cell]), abs=0.01 * scale)


def test_scores_exist_only_on_real_edges() -> None:
    scores = attribute(tiny(), tiny_pairs(), points=2)
    assert bool((scores.scores[~scores.real] == 0).all())
    zero = (scores.real & (scores.scores == 0)).nonzero().tolist()
    # In the last layer only the last position's queries, MLP and read-out count, and there no token was corrupted.
    silent = [*(f"a2.h{head}<q>" for head in range(4)), "m2", "logits"]
    assert [(scores.writers[row], scores.readers[column]) for row, column in zero] == [("input", r) for r in silent]
    assert not scores.real[scores.writers.index("m1"), scores.readers.index("m1")]
    assert scores.real[scores.writers.index("a1.h3"), scores.readers.index("m1")]
    assert not scores.real[scores.writers.index("a1.h3"), scores.readers.index("a1.k0<v>")]


@pytest.mark.parametrize("name", FAMILIES)
def test_batching_changes_nothing_and_keeps_the_order(name: str) -> None:
    model, pairs, neural = tiny(name), tiny_pairs(7), name in NEURAL
    seen: list[tuple[int, int]] = []
    together = attribute(
        model, pairs, points=2, per_example=True, neurons=neural, progress=lambda *done: seen.append(done)
    )
    assert together.per_example is not None
    assert seen[-1] == (7, 7)
    assert seen == sorted(seen)
    alone = [attribute(model, [pair], points=2, neurons=neural) for pair in pairs]
    torch.testing.assert_close(together.per_example, torch.stack([one.scores for one in alone]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(together.scores, together.per_example.mean(0), rtol=1e-4, atol=1e-6)
    if neural:
        assert together.neurons is not None
        neurons = torch.stack([one.neurons for one in alone if one.neurons is not None]).mean(0)
        torch.testing.assert_close(together.neurons, neurons, rtol=1e-3, atol=1e-5)
    small = attribute(model, pairs, points=2, batch_size=2)
    torch.testing.assert_close(together.scores, small.scores, rtol=1e-3, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny()
    model.train()
    model.model.layers[0].eval()
    model.model.norm.weight.requires_grad_(requires_grad=False)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    with torch.no_grad():
        scores = attribute(model, tiny_pairs(2), points=1)
    assert float(scores.scores.abs().max()) > 0
    assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.config.attention_dropout = 0.5
    again = attribute(model, tiny_pairs(2), points=1)
    assert torch.equal(scores.scores, again.scores)


@pytest.mark.parametrize("name", SMOOTH)
def test_bfloat16_scores_follow_float32(name: str) -> None:
    model, pairs = tiny(name), tiny_pairs(4)
    exact = attribute(model, pairs)
    rounded = attribute(model.bfloat16(), pairs)
    assert rounded.scores.dtype == torch.float32
    cosine = torch.cosine_similarity(exact.scores.flatten(), rounded.scores.flatten(), dim=0)
    assert float(cosine) > 0.98


@pytest.mark.parametrize("rule", ["left", "midpoint", "gauss"])
def test_rules_integrate(rule: str) -> None:
    schedule = integration_points(rule, 4)
    assert sum(weight for _, weight in schedule) == pytest.approx(1)
    linear = sum(alpha * weight for alpha, weight in schedule)
    assert linear == pytest.approx(0.375 if rule == "left" else 0.5)
    assert all(0 <= alpha < 1 for alpha, _ in schedule)
    sixth = sum(alpha**6 * weight for alpha, weight in schedule)
    assert (abs(sixth - 1 / 7) < 1e-9) == (rule == "gauss")


def test_left_rule_starts_at_the_corrupt_prompt() -> None:
    model, pair = tiny(), tiny_pairs(1)[0]
    turned = replace(pair, clean=pair.corrupt, corrupt=pair.clean)
    left = attribute(model, [pair], rule="left", points=1)
    reverse = attribute(model, [turned], rule="left", points=1)
    # One left point is the gradient at the corrupt prompt, so turning the pair takes it at the other end.
    assert not torch.allclose(left.scores, -reverse.scores, rtol=0.1)
    middle, middle_reverse = (attribute(model, [p], points=1) for p in (pair, turned))
    torch.testing.assert_close(middle.scores, -middle_reverse.scores, rtol=1e-3, atol=1e-5)


GOOD = Pair((1, 2, 3), (1, 4, 3), 5, (6,))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no contrast pairs"),
        ([GOOD, replace(GOOD, corrupt=(1, 2))], "pair 1 .* 3 and 2 tokens"),
        ([replace(GOOD, corrupt=GOOD.clean)], "are the same"),
        ([replace(GOOD, alternatives=())], "no alternatives"),
        ([replace(GOOD, alternatives=(7, 5))], "among its alternatives"),
        ([replace(GOOD, answer=VOCABULARY)], "outside the vocabulary"),
        ([replace(GOOD, clean=(1, -1, 3))], "outside the vocabulary"),
    ],
)
def test_unusable_pairs_are_refused(pairs: list[Pair], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attribute(tiny(), pairs)


@pytest.mark.parametrize("options", [{"points": 0}, {"rule": "simpson"}, {"batch_size": 0}])
def test_unusable_options_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        attribute(tiny(), [GOOD], **options)


def test_residual_is_finite() -> None:
    assert math.isfinite(attribute(tiny(), [GOOD], points=1).residual)


@pytest.mark.parametrize("name", FAMILIES)
def test_lean_attribution_gives_the_same(name: str) -> None:
    model, pairs, neural = tiny(name), tiny_pairs(), name in NEURAL
    options = {"points": 3, "rule": "gauss", "per_example": True, "neurons": neural, "channels": True, "batch_size": 2}
    expected, found = (attribute(model, pairs, lean=lean, **options) for lean in (False, True))
    torch.testing.assert_close(found.per_example, expected.per_example, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.channels, expected.channels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.neurons, expected.neurons, rtol=1e-4, atol=1e-5)
    assert found.residual == pytest.approx(expected.residual, rel=1e-3)


@pytest.mark.parametrize("most", [1, 30, 10**6])
def test_points_run_together_as_they_do_alone(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = tiny("llama"), tiny_pairs()
    expected = attribute(model, pairs, rule="gauss", points=7, per_example=True, neurons=True)
    monkeypatch.setattr("verify.circuits.attribution._TOKENS", most)
    found = attribute(model, pairs, rule="gauss", points=7, per_example=True, neurons=True)
    torch.testing.assert_close(found.per_example, expected.per_example, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.neurons, expected.neurons, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt-neox", "gpt2", "mixtral-all", "gemma2"])
@pytest.mark.parametrize(("layers", "positions"), [(1, 1), (2, 5), (9, 10**6)])
def test_scores_do_not_depend_on_how_much_is_formed_at_a_time(
    name: str, layers: int, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs = tiny(name), tiny_pairs()
    options = {"points": 2, "per_example": True, "channels": True, "neurons": name in NEURAL}
    expected = attribute(model, pairs, **options)
    monkeypatch.setattr("verify.circuits.products._LAYERS", layers)
    monkeypatch.setattr("verify.circuits.products._WITHIN", positions)
    monkeypatch.setattr("verify.circuits.products._AFTER", positions)
    found = attribute(model, pairs, **options)
    torch.testing.assert_close(found.per_example, expected.per_example, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.channels, expected.channels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.neurons, expected.neurons, rtol=1e-4, atol=1e-5)
