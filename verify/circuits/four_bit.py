"""Linear layers as NF4 deploys them: the weight that a bitsandbytes `Linear4bit` multiplies by."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def is_four_bit(module: nn.Module) -> bool:
    """Whether `module` is a bitsandbytes `Linear4bit`; its package is not loaded to find out."""
    layers: Any = sys.modules.get("bitsandbytes.nn")
    return layers is not None and isinstance(module, layers.Linear4bit)


def computes_rounded(model: nn.Module) -> bool:
    """Whether `model` has a `Linear4bit` that computes in less than float32, whatever goes in and comes out."""
    layers: list[Any] = [module for module in model.modules() if is_four_bit(module)]
    return any(layer.compute_dtype not in {None, torch.float32} for layer in layers)


def dequantized(module: nn.Module) -> Tensor:
    """Return the weight of a `Linear4bit`, float32 [out, in], computed anew at each call.

    Within `unpacked` only: the layout that bitsandbytes makes for inference on the CPU cannot be read here.
    """
    weight: Any = module.weight
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415  (the module is one of its own, so it is loaded)

    return dequantize_4bit(weight.data, weight.quant_state).float()


@contextmanager
def unpacked(model: nn.Module) -> Iterator[None]:
    """Keep every `Linear4bit` in the layout that has gradients and can be dequantized.

    On processors with bfloat16 instructions bitsandbytes 0.50 packs the weights at the first evaluation without
    gradients, for a kernel that rounds to bfloat16 and that no gradient passes. That rounds the scales to bfloat16 for
    good: a layer that was evaluated so before is scored with the scales it has now. On exit the layers may pack again.
    """
    layers: list[Any] = [module for module in model.modules() if is_four_bit(module)]
    allowed = [layer.support_avx512bf16_for_cpu for layer in layers]
    try:
        for layer in layers:
            layer.support_avx512bf16_for_cpu = False
            _unpack(layer)
        yield
    finally:
        for layer, flag in zip(layers, allowed, strict=True):
            layer.support_avx512bf16_for_cpu = flag


def _unpack(layer: Any) -> None:
    weight = layer.weight
    if getattr(weight.quant_state, "packing_format_for_cpu", False):
        # as bitsandbytes does before it saves a layer
        from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse as unpack  # noqa: PLC0415

        weight.data, weight.quant_state = unpack(weight.data, weight.quant_state)
        layer.quant_state = weight.quant_state
