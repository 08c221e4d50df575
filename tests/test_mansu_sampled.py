"""Sampled gradients against autograd's dense ones."""

import certificates as c
import pytest
import torch

from mansu.retain.fisher import gradients
from mansu.retain.null_space import NullSpace
from mansu.solve.sampled import gradients_at
from verify.behaviour.modules import nf4_linears

IDS = torch.tensor([[3, 4, 5, 9], [5, 6, 7, 8]])


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("from_layer", [0, 2])
def test_they_are_the_dense_gradient_at_the_places(projected: bool, from_layer: int) -> None:
    model = c.random_model(layers=4).eval().requires_grad_(False)
    layers = {name: layer for name, layer in nf4_linears(model).items() if int(name.split(".")[2]) >= from_layer}
    generator = torch.Generator().manual_seed(0)
    indices = {
        name: torch.randperm(layer.weight.numel(), generator=generator)[: 7 + 5 * i].sort().values
        for i, (name, layer) in enumerate(layers.items())
    }
    bases = {
        name: torch.linalg.qr(torch.randn(layer.in_features, 6, generator=generator)).Q
        for name, layer in layers.items()
    }

    def loss() -> torch.Tensor:  # two runs, as packs of prompts have
        return sum(model(input_ids=ids[None]).logits.square().mean() for ids in IDS)

    found = gradients_at(loss, layers, indices, NullSpace(bases).project if projected else None)

    for layer in layers.values():
        layer.weight.requires_grad_(True)
    dense = gradients(loss(), layers)
    if projected:
        dense = {name: g @ (torch.eye(g.shape[1]) - bases[name] @ bases[name].T) for name, g in dense.items()}
    expected = torch.cat([g.reshape(-1)[indices[name]] for name, g in dense.items()])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert not any(layer._forward_hooks for layer in layers.values())
