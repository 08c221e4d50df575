"""The formats of bitsandbytes, as `transformers` deploys them: NF4, FP4, and the vector-wise int8 of LLM.int8()."""

from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn

from verify.nf4 import dequantize, quantize

# only partly typed
_functional: Any = bnb.functional
_layers: Any = bnb.nn

OUTLIER = 6.0
"""`llm_int8_threshold`: activations at least this large are multiplied in full precision."""


def nf4(weight: Tensor, *, double: bool = False) -> Tensor:
    """Return a weight after NF4 in blocks of 64, rounded to its own dtype as it is dequantized there; float32.

    `double` compresses the scales to 8 bits.
    """
    return dequantize(quantize(weight, double=double), weight.dtype).float()


def fp4(weight: Tensor) -> Tensor:
    """Return a weight after FP4 in blocks of 64 (what a bare `load_in_4bit=True` means), float32."""
    packed, state = _functional.quantize_4bit(weight.contiguous(), blocksize=64, quant_type="fp4")
    result: Tensor = _functional.dequantize_4bit(packed, state)
    return result.float().reshape(weight.shape)


def int8(weight: Tensor) -> Tensor:
    """Return a weight after LLM.int8(): float16, then 8 bits a value, one scale a row (its absmax / 127); float32."""
    codes, absmax, _ = _functional.int8_vectorwise_quant(weight.to(torch.float16))
    result: Tensor = _functional.int8_vectorwise_dequant(codes, absmax)
    return result.float()


def int8_linear(weight: Tensor, bias: Tensor | None) -> Any:
    """Return the library's own 8-bit layer: its activations are rounded to 8 bits a token, outliers apart.

    It runs on the CPU too. Inputs stay float32 between layers here, and are cast to float16 where they are rounded.
    """
    out, into = weight.shape
    layer = _layers.Linear8bitLt(into, out, bias=bias is not None, has_fp16_weights=False, threshold=OUTLIER)
    layer.weight = _layers.Int8Params(weight.float().contiguous(), requires_grad=False, has_fp16_weights=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().float(), requires_grad=False)
    return layer.to("cpu").eval()
