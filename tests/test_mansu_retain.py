"""Null space and Fisher on a tiny model."""

import certificates as c
import torch

from mansu.data.examples import Prompts, Texts
from mansu.retain.fisher import Fisher, fisher
from mansu.retain.null_space import NullSpace, null_space, second_moments
from mansu.solve.sampled import gradients_at
from verify.behaviour.modules import nf4_linears


def test_projection_is_one_and_removes_what_the_retain_set_uses() -> None:
    model = c.random_model().eval()
    layers = nf4_linears(model)
    prompts = Prompts(((3, 4, 5), (5, 6, 7)), (1, 2), ((1, 2), (1, 2)))
    moments = second_moments(model, layers, prompts, [Texts(torch.arange(24).reshape(3, 8))])
    space = null_space(moments, energy=0.9, progress=lambda _: None)
    assert space.removed.keys() == layers.keys()
    for name, basis in space.removed.items():
        assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-4), name
        assert 0 < basis.shape[1] < layers[name].in_features
        rows = torch.randn(5, layers[name].in_features)
        once = space.project(name, rows)
        assert torch.allclose(space.project(name, once), once, atol=1e-4), name
        assert torch.allclose(once @ basis, torch.zeros(5, basis.shape[1]), atol=1e-4), name
    assert space.removed["model.layers.0.self_attn.q_proj"] is space.removed["model.layers.0.self_attn.k_proj"]


def test_retain_activations_lose_their_energy() -> None:
    model = c.random_model().eval()
    layers = nf4_linears(model)
    prompts = Prompts(((3, 4, 5),), (1,), ((1, 2),))
    seen: list[torch.Tensor] = []
    name = "model.layers.1.mlp.down_proj"
    handle = layers[name].register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach().reshape(-1, 128)))
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 4, 5]]))
    handle.remove()
    moments = second_moments(model, layers, prompts, [])
    torch.testing.assert_close(moments[name], seen[0].T @ seen[0])
    space = null_space(moments, energy=0.9, progress=lambda _: None)
    kept = space.project(name, seen[0]).square().sum() / seen[0].square().sum()
    assert float(kept) <= 0.1 + 1e-4


def test_fisher_is_the_mean_squared_gradient() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, 2.0]])
    found = fisher({"l": layer}, [lambda: layer(x).sum(), lambda: 3 * layer(x).sum()], progress=lambda _: None)
    assert torch.allclose(found.diagonal["l"], torch.tensor([[5.0, 20.0]]))
    assert found.mean == 12.5


def test_the_whole_space_projects_nothing_and_the_flat_fisher_weighs_nothing() -> None:
    layer = torch.nn.Linear(64, 8, bias=False)
    x, places = torch.randn(5, 64), {"l": torch.arange(0, 512, 3)}
    space = NullSpace.whole({"l": layer})
    assert torch.equal(space.project("l", x), x)
    projected, plain = (
        gradients_at(lambda: layer(x).square().sum(), {"l": layer}, places, project)
        for project in (space.project, None)
    )
    assert torch.equal(projected, plain)
    flat = Fisher.flat({"l": layer})
    assert torch.equal((flat.diagonal["l"] + flat.mean).sqrt(), torch.ones(8, 64))
    assert torch.equal(flat.at(places)["l"], torch.zeros(171))
