"""Models as NF4 deploys them: bitsandbytes' Linear4bit on the CPU scores as its dequantized weights do."""

from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from test_circuits_families import FAMILIES, NEURAL, tiny, tiny_pairs
from torch import nn
from transformers.pytorch_utils import Conv1D

from verify.circuits import attribute, describe, patched_metric, random_edges
from verify.circuits.four_bit import dequantized, is_four_bit, unpacked


def four_bit(layer: nn.Module, *, double: bool) -> Any:
    """A Linear4bit of a Linear, or of GPT-2's Conv1D, as transformers makes it: outputs first."""
    turned = isinstance(layer, Conv1D)
    weight: Any = layer.weight.data.T.contiguous() if turned else layer.weight.data
    made: Any = Linear4bit(
        *(weight.shape[1], weight.shape[0]),
        bias=layer.bias is not None,
        quant_type="nf4",
        compress_statistics=double,
        compute_dtype=torch.float32,
    )
    made.weight.data = weight.clone()
    if layer.bias is not None:
        made.bias.data = layer.bias.data.clone()
    made.weight._quantize("cpu")
    return made


def deployed(name: str, *, double: bool = False) -> tuple[nn.Module, nn.Module]:
    """A model with Linear4bit layers, and one with ordinary layers that hold the dequantized weights."""
    packed, plain = tiny(name), tiny(name)
    for path, module in list(packed.named_modules()):
        if isinstance(module, (nn.Linear, Conv1D)) and path not in {"lm_head", "embed_out"}:
            layer = four_bit(module, double=double)
            packed.set_submodule(path, layer)
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
            plain.get_submodule(path).weight.data = weight.T.contiguous() if isinstance(module, Conv1D) else weight
    return packed.eval(), plain.eval()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_four_bit_layers_score_as_their_dequantized_weights(name: str, double: bool) -> None:
    packed, plain = deployed(name, double=double)
    assert sum(isinstance(module, Linear4bit) for module in packed.modules()) >= 3 * 2
    assert describe(packed) == describe(plain)
    pairs = tiny_pairs()
    found, wanted = (
        attribute(model, pairs, points=3, neurons=name in NEURAL, channels=True) for model in (packed, plain)
    )
    scale = float(wanted.scores.abs().max())
    torch.testing.assert_close(found.metric_clean, wanted.metric_clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(found.neurons, wanted.neurons, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(found.channels, wanted.channels, rtol=0, atol=1e-4 * scale)
    circuit = random_edges(found.graph, 150, 0)
    torch.testing.assert_close(
        patched_metric(packed, pairs, circuit), patched_metric(plain, pairs, circuit), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("double", [False, True])
def test_layers_packed_for_inference_are_unpacked_and_may_pack_again(double: bool) -> None:
    torch.manual_seed(0)
    width = 64
    layer: Any = Linear4bit(
        *(width, width), bias=False, quant_type="nf4", compress_statistics=double, compute_dtype=torch.float32
    )
    layer.weight._quantize("cpu")
    layer.eval()
    before = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    with torch.no_grad():
        layer(torch.randn(1, 3, width))  # packs the layer where the processor has bfloat16 instructions
    allowed = layer.support_avx512bf16_for_cpu
    with unpacked(layer):
        assert not layer.support_avx512bf16_for_cpu
        now = dequantized(layer)
        # packing rounds the scales to bfloat16, and that is what the layer multiplies by from then on
        torch.testing.assert_close(now, before, rtol=2**-8, atol=0)
        given = torch.randn(1, 3, width, requires_grad=True)
        (slope,) = torch.autograd.grad(layer(given)[0, 0, 0], given)
        torch.testing.assert_close(slope[0, 0], now[0])
        with torch.no_grad():
            layer(torch.randn(1, 3, width))
        assert torch.equal(dequantized(layer), now)
    assert layer.support_avx512bf16_for_cpu == allowed


def test_ordinary_layers_are_left_alone() -> None:
    layer = nn.Linear(3, 2, dtype=torch.bfloat16)
    assert not is_four_bit(layer)
    with unpacked(layer):
        pass
