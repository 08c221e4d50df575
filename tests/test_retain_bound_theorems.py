"""Layers, Fishers, passes: Lemmas 1 and 2 and Theorems 2 to 4 of docs/retain-bound.md, and what does not hold."""

from collections.abc import Callable

import certificates as c
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from mansu.retain_bound.divergence import change, deviation
from mansu.retain_bound.edit import LayerEdit, applied, layer_edit
from mansu.retain_bound.fisher import half_diagonals
from mansu.retain_bound.leak import Moments, by_block
from mansu.retain_bound.measure import bound, exceeded, measure
from mansu.retain_bound.passes import Batch, steps, tangent
from mansu.retain_bound.transfer import conformal_factor
from verify.behaviour.modules import nf4_linears

NAME = "model.layers.0.mlp.down_proj"


@st.composite
def layers(draw: st.DrawFn) -> tuple[LayerEdit, Tensor, Tensor]:
    """A sparse edit of a linear layer, its ΔW, and retain inputs `[n, in]` of few directions or many."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    outs, ins, n, rank = (draw(st.integers(1, top)) for top in (6, 8, 20, 8))
    layer = nn.Linear(ins, outs, bias=False)
    moves = torch.randn(outs, ins, generator=generator) * (torch.rand(outs, ins, generator=generator) < 0.5)
    moves[0, 0] = 1.0
    after = layer.weight.detach() + moves
    inputs = torch.randn(n, rank, generator=generator) @ torch.randn(rank, ins, generator=generator)
    return layer_edit(NAME, layer, after), after - layer.weight.detach(), inputs


@given(layers(), st.floats(0.05, 0.99))
def test_the_leak_is_the_trace_and_lies_below_its_split(
    given_: tuple[LayerEdit, Tensor, Tensor], energy: float
) -> None:
    edit, delta, inputs = given_
    moments = Moments()
    for part in inputs.split(3):
        moments.listen(NAME, part.clone())
    found = moments.splits({NAME: edit}, energy)[NAME]
    mean = float((inputs @ delta.T).square().sum(1).mean())
    assert found.leak == pytest.approx(mean, rel=1e-3, abs=1e-5)
    assert found.leak <= found.bound * (1 + 1e-6)
    assert found.weight == pytest.approx(float(delta.square().sum()), rel=1e-3)
    assert 0 <= found.kept_leak <= found.leak * (1 + 1e-6)
    assert 0 <= found.kept_weight <= found.weight * (1 + 1e-6)
    (block,) = by_block({NAME: edit}, {NAME: found})
    assert (block.block, block.leak) == (0, found.leak)


def random_edit(model: nn.Module, *, size: float, each: int = 40, seed: int = 0) -> dict[str, LayerEdit]:
    """Move some values of every linear layer."""
    generator = torch.Generator().manual_seed(seed)
    edits = {}
    for name, layer in nf4_linears(model).items():
        after = layer.weight.detach().clone()
        places = torch.randperm(after.numel(), generator=generator)[:each]
        after.view(-1)[places] += size * torch.randn(each, generator=generator)
        edits[name] = layer_edit(name, layer, after)
    return edits


def frozen(layers: int = 2) -> nn.Module:
    model = c.random_model(layers=layers).eval().requires_grad_(False)
    # far enough from the start of training that predictions are not flat
    for parameter in model.parameters():
        parameter.mul_(4 if parameter.dim() == 2 else 1)
    model.set_attn_implementation("eager")
    return model


BATCHES = [
    Batch(torch.arange(3, 21).reshape(3, 6), last=True),
    Batch(torch.arange(5, 13).reshape(2, 4), last=True),
    Batch(torch.arange(30, 46).reshape(2, 8), last=False),
]


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(**batch.arguments()).logits.flatten(0, 1)


def test_an_edit_that_adds_nothing_to_retain_inputs_changes_no_prediction() -> None:
    """Lemma 2: a null space that is one leaves the whole model alone, whatever the size of the edit."""
    model, batch = frozen(), BATCHES[2]
    layers, seen = nf4_linears(model), {}
    handles = [
        layer.register_forward_pre_hook(lambda _m, args, name=name: seen.__setitem__(name, args[0].flatten(0, 1)))
        for name, layer in layers.items()
    ]
    base = logits_of(model, batch)
    for handle in handles:
        handle.remove()
    edits = {}
    for name, layer in layers.items():
        _, _, directions = torch.linalg.svd(seen[name].double(), full_matrices=True)
        null = directions[seen[name].shape[0] :]
        move = (0.1 * torch.randn(layer.out_features, null.shape[0], dtype=torch.float64) @ null).float()
        edits[name] = layer_edit(name, layer, layer.weight + move)
    with applied(model, edits):
        edited = logits_of(model, batch)
    assert torch.equal(logits_of(model, batch), base)
    assert float(change(base, edited).divergence.max()) < 1e-6
    other = Batch(batch.ids.flip(1), last=False)
    with applied(model, edits):
        changed = logits_of(model, other)
    assert float(change(logits_of(model, other), changed).divergence.max()) > 1e-2


def test_the_derivative_is_that_of_the_logits_along_the_edit() -> None:
    model, batch = frozen(), BATCHES[2]
    edits = random_edit(model, size=1e-2)
    found = tangent(model, edits, batch)
    assert torch.allclose(found.logits, logits_of(model, batch), atol=1e-5)
    start = {f"{name}.weight": model.get_parameter(f"{name}.weight") for name in edits}
    ends = {
        name: weight.reshape(-1).index_add(0, edits[name[:-7]].indices, edits[name[:-7]].moves).reshape(weight.shape)
        for name, weight in start.items()
    }

    def run(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, weights, (), batch.arguments()).logits.flatten(0, 1)

    with torch.no_grad():
        _, expected = torch.func.jvp(run, (start,), ({name: ends[name] - start[name] for name in start},))
    assert torch.allclose(found.derivative, expected, atol=1e-4, rtol=1e-3)


def test_the_steps_lead_from_the_base_to_the_edited_model() -> None:
    model, batch = frozen(3), BATCHES[0]
    edits = random_edit(model, size=0.3)
    base = tangent(model, edits, batch)
    found = dict(steps(model, edits, batch, base.added))
    assert list(found) == [0, 1, 2]
    with applied(model, edits):
        assert torch.equal(found[2], logits_of(model, batch))
    # the first step: layer 0 is edited, all others give back what the edit adds at the base's inputs
    first = {name: edit for name, edit in edits.items() if edit.block == 0}
    alone = dict(steps(model, first, batch, base.added))[0]
    later = [name for name, edit in edits.items() if edit.block > 0]
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda module, _, out, name=name: out - edits[name].spread(base.added[name], module.out_features)
        )
        for name in later
    ]
    with applied(model, edits):
        expected = logits_of(model, batch)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert not torch.allclose(found[0], alone, atol=1e-2)
    assert torch.equal(logits_of(model, batch), logits_of(frozen(3), batch))


@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0])
def test_every_bound_holds_on_a_model_whatever_the_size_of_the_edit(size: float) -> None:
    model = frozen()
    edits = random_edit(model, size=size)
    for which, batches in (("prompts", BATCHES[:2]), ("texts", BATCHES[2:])):
        found = bound(measure(model, edits, batches, listen=None, progress=lambda _: None), edits, which, held_out=True)
        assert found.exceeded == 0
        assert 0 < found.measured <= found.by_logits <= min(found.by_fisher, found.by_layers) * (1 + 1e-9)
        assert found.measured <= found.worst
        assert found.by_logits <= min(found.each_fisher, found.each_layers) * (1 + 1e-9)
        assert found.each_fisher <= found.by_fisher * (1 + 1e-9)
        assert found.each_layers <= found.by_layers * (1 + 1e-9)
        if size == 1e-3:
            # to second order the divergence is ½ΔᵀFΔ
            assert found.measured == pytest.approx(found.half_fisher, rel=0.1)
            assert found.by_fisher == pytest.approx(found.half_fisher, rel=0.2)


def test_the_diagonal_is_unbiased_and_coherence_is_at_most_the_number_of_values() -> None:
    model, batch = frozen(), BATCHES[2]
    name = "model.layers.1.mlp.up_proj"
    edits = {name: random_edit(model, size=0.1, each=12)[name]}
    edit = edits[name]
    weight = model.get_parameter(f"{name}.weight")

    def log_p(values: Tensor) -> Tensor:
        moved = weight.reshape(-1).index_put((edit.indices,), values).reshape(weight.shape)
        out = functional_call(model, {f"{name}.weight": moved}, (), batch.arguments())
        return out.logits.flatten(0, 1).log_softmax(-1)

    start = weight.reshape(-1)[edit.indices].clone()
    jacobian = jacrev(log_p)(start)
    p = log_p(start).exp()
    full = torch.einsum("pv,pvi,pvj->ij", p, jacobian, jacobian) / p.shape[0]
    exact = float((full.diagonal() * edit.moves.square()).sum()) / 2
    draws = half_diagonals(model, edits, [batch], 400, torch.Generator().manual_seed(0))
    assert abs(float(draws.mean()) - exact) < 5 * float(draws.std()) / 20
    assert float(draws.std()) / 20 < 0.1 * exact
    quadratic = float(edit.moves @ full @ edit.moves)
    assert quadratic <= edit.indices.numel() * 2 * exact
    found = tangent(model, edits, batch)
    assert float(deviation(found.logits, found.derivative).square().mean()) == pytest.approx(quadratic, rel=1e-3)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_coherence_is_proved_below_the_number_of_values(n: int, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(rank, n, generator=generator, dtype=torch.float64)
    delta = torch.randn(n, generator=generator, dtype=torch.float64)
    full = root.T @ root
    assert float(delta @ full @ delta) <= n * float((full.diagonal() * delta.square()).sum()) * (1 + 1e-9)


def kl(logits: Callable[[Tensor], Tensor], delta: Tensor) -> float:
    zero = torch.zeros_like(delta)
    return float(change(logits(zero)[None], logits(delta)[None]).divergence)


def diagonal(logits: Callable[[Tensor], Tensor], n: int) -> Tensor:
    zero = torch.zeros(n, dtype=torch.float64)
    p = logits(zero).softmax(-1)
    jacobian = jacrev(lambda w: logits(w).log_softmax(-1))(zero)
    return (p[:, None] * jacobian.square()).sum(0)


def test_the_diagonal_alone_bounds_nothing() -> None:
    def aligned(w: Tensor) -> Tensor:  # n values that all push one logit
        return torch.stack([w.sum(), w.new_zeros(())])

    n, step = 100, 0.01
    delta = torch.full((n,), step, dtype=torch.float64)
    cost = float((diagonal(aligned, n) * delta.square()).sum()) / 2
    assert kl(aligned, delta) > 0.95 * n * cost  # the factor n of Cauchy and Schwarz is attained

    def dead(w: Tensor) -> Tensor:  # a neuron that is off at the base
        return torch.cat([50 * torch.relu(w - 1), w.new_zeros(1)])

    assert diagonal(dead, 1).tolist() == [0.0]
    assert kl(dead, torch.tensor([2.0], dtype=torch.float64)) > 20  # at no cost


def test_squares_of_mini_batch_gradients_are_not_the_diagonal() -> None:
    """Two prompts whose gradients cancel in their batch: the empirical estimate is 0, the Fisher is not."""
    w = torch.zeros(1, requires_grad=True)
    logits = torch.stack([torch.cat([w, w.new_zeros(1)]), torch.cat([-w, w.new_zeros(1)])])
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(loss, w)
    assert float(gradient) == 0.0
    assert diagonal(lambda v: torch.cat([v, v.new_zeros(1)]), 1).tolist() == [0.25]


def test_the_conformal_factor_is_the_right_order_statistic_and_covers() -> None:
    scores = torch.arange(1.0, 20.0)  # 19 of them
    assert conformal_factor(scores, 0.9) == 18.0
    assert conformal_factor(scores, 0.95) == 19.0
    assert conformal_factor(scores[:8], 0.9) is None
    assert conformal_factor(scores[:9], 0.9) == 9.0
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(4000, 20, generator=generator).exp()
    covered = sum(float(row[19]) <= (conformal_factor(row[:19], 0.9) or 0.0) for row in draws)
    assert 0.88 < covered / 4000 < 0.92


def test_a_value_above_its_limit_is_counted() -> None:
    assert exceeded(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.9])) == 1
