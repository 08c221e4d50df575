"""What an edit may move: masks that nothing gets past, and a forward pass that really is NF4's."""

import pytest
import tiny_baselines as tiny
import torch
from torch import nn

from mansu.baselines.weights import bin_width_over_update, changed, dense, edited_weights, masked, put, straight_through
from mansu.data.examples import last_logits
from verify.behaviour.loading import Language, nf4_copy
from verify.behaviour.modules import nf4_linears
from verify.nf4 import WIDTHS, dequantize, quantize


def test_decay_and_momentum_do_not_get_past_a_mask() -> None:
    known = tiny.known()
    model, before = known.fresh(), edited_weights(known.fresh(), torch.float32)
    with masked(model, known.regions) as parameters:
        # the traps at once: decay, momentum that goes on after a gradient of zero, and an optimizer reset
        for optimizer in (
            torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5),
            torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=True),
        ):
            for scale in (1.0, 0.0, 0.0):
                optimizer.zero_grad()
                loss = scale * last_logits(model, known.data.forget, range(4)).square().mean()
                loss.backward()
                optimizer.step()
    after = edited_weights(model, torch.float32)
    for name, region in known.regions.items():
        assert torch.equal(after[name][~region].view(torch.int32), before[name][~region].view(torch.int32)), name
        assert (after[name][region] != before[name][region]).float().mean() > 0.9 or not region.any(), name
    assert {type(layer) for layer in nf4_linears(model).values()} == {nn.Linear}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_parameters_of_a_mask_are_its_values() -> None:
    known = tiny.known()
    with masked(known.fresh(), known.regions) as parameters:
        assert sum(p.numel() for p in parameters) == sum(int(region.sum()) for region in known.regions.values())
    with dense(known.fresh()) as parameters:
        assert sum(p.numel() for p in parameters) == sum(region.numel() for region in known.regions.values())


def test_the_straight_through_forward_is_nf4_exactly_and_its_gradient_passes() -> None:
    known = tiny.known()
    model, deployed = known.fresh(), nf4_copy(Language(known.fresh(), None), torch.bfloat16).model
    # weights between the values that can be stored, as training leaves them
    put(model, {name: w.float() * 1.0009 for name, w in edited_weights(model, torch.bfloat16).items()})
    latent = edited_weights(model, torch.float32)
    put(deployed, {n: dequantize(quantize(w.bfloat16()), torch.bfloat16) for n, w in latent.items()})
    layers = nf4_linears(model)
    weights = nf4_linears(deployed)
    for layer in weights.values():
        layer.weight.requires_grad_(True)
    with straight_through(model, torch.bfloat16) as parameters:
        for name, layer in layers.items():
            wanted = dequantize(quantize(latent[name].bfloat16()), torch.bfloat16).float()
            assert torch.equal(layer.weight, wanted), name
            assert not torch.equal(layer.weight, latent[name])
        logits, same = (last_logits(m, known.data.forget, range(6)) for m in (model, deployed))
        assert torch.equal(logits, same)
        for value in (logits, same):
            value.square().mean().backward()
        for parameter, layer in zip(parameters, weights.values(), strict=True):
            assert torch.equal(parameter.grad, layer.weight.grad)
    assert changed(latent, edited_weights(model, torch.float32)) == 0
    assert {type(layer) for layer in nf4_linears(model).values()} == {nn.Linear}


def test_bin_width_over_update_is_the_median_of_changed_weights() -> None:
    weight = torch.linspace(-1, 1, 128).reshape(2, 64)
    widths = WIDTHS[quantize(weight).codes.int()] * quantize(weight).scales()
    moved = weight - widths / 4
    assert bin_width_over_update({"a": weight}, {"a": moved}) == pytest.approx(4, rel=1e-3)
    assert bin_width_over_update({"a": weight}, {"a": weight}) == float("inf")
    assert changed({"a": weight}, {"a": moved}) == 128
