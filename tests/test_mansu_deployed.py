"""The model as NF4 deploys it while it is solved for: what it shows, what follows the edit, and what is put back."""

from typing import Any

import pytest
import torch
from tiny_baselines import known
from torch import Tensor

from mansu.floor.lattice import absmax_holders
from mansu.mask.selection import Mask
from mansu.solve.deployed import Deployed, deployed
from mansu.solve.masked import Bounds, Masked, masked_parameters
from mansu.solve.objective import retain_divergences
from verify.behaviour.modules import nf4_linears
from verify.nf4 import dequantize, quantize
from verify.nf4.rows import Geometry

LAYERS = ("model.layers.0.mlp.up_proj", "model.layers.1.self_attn.o_proj")


@pytest.fixture
def model() -> Any:
    return known().fresh()


@pytest.fixture
def mask(model: Any) -> Mask:
    free = {name: ~absmax_holders(model.get_submodule(name).weight.data.bfloat16()) for name in LAYERS}
    return Mask({name: places.reshape(-1).nonzero().reshape(-1)[::5] for name, places in free.items()}, 1)


@pytest.fixture
def after(model: Any, mask: Mask) -> Deployed:
    return deployed(model, mask, known().data.retained)


def masked_of(model: Any, mask: Mask) -> Masked:
    layers = {name: nf4_linears(model)[name] for name in mask.indices}
    fisher = {name: torch.ones(index.numel()) for name, index in mask.indices.items()}
    return masked_parameters(layers, torch.bfloat16, mask, fisher, Bounds((Geometry(),)))


def weights(model: Any) -> dict[str, Tensor]:
    return {name: layer.weight.data.clone() for name, layer in nf4_linears(model).items()}


def diverged(model: Any, after: Deployed, *, from_full: bool) -> float:
    data = known().data
    retained = data.retained if from_full else after.retained
    with torch.no_grad():
        found = retain_divergences(model, retained, range(8), range(2))
        return float(found.prompts + found.answers + found.texts)


def test_it_shows_what_nf4_makes_of_every_linear_layer_and_puts_all_back(model: Any, after: Deployed) -> None:
    before = weights(model)
    with after.shown():
        shown = weights(model)
    assert all(torch.equal(shown[name], dequantize(quantize(weight))) for name, weight in before.items())
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_all_is_put_back_where_a_step_fails(model: Any, after: Deployed) -> None:
    before = weights(model)
    with pytest.raises(IndexError), after.shown():
        model(input_ids=torch.tensor([[10_000]]))
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_what_is_retained_after_nf4_is_what_the_base_predicts_there(model: Any, after: Deployed) -> None:
    with after.shown():
        assert diverged(model, after, from_full=False) < diverged(model, after, from_full=True) / 5
    assert diverged(model, after, from_full=True) < diverged(model, after, from_full=False) / 5


def test_what_was_snapped_stands_where_nf4_puts_it(model: Any, mask: Mask, after: Deployed) -> None:
    masked = masked_of(model, mask)
    grid = masked.lattice
    level = grid.values.gather(1, grid.valid.int().argmax(1, keepdim=True))[:, 0]
    masked.set(torch.where(grid.valid.any(1), level, grid.base))
    after.follow(masked)
    assert masked.changed > 100
    for name, weight in weights(model).items():
        torch.testing.assert_close(after.weights[name], dequantize(quantize(weight)), rtol=2**-7, atol=0)
    masked.set(grid.base)
    after.follow(masked)
    assert all(torch.equal(after.weights[name], dequantize(quantize(w))) for name, w in weights(model).items())
