"""The block formats of GGUF files: encoded as ggml does, decoded by the package `gguf`.

`gguf` 0.19 encodes Q4_0, Q5_0, Q5_1 and Q8_0 in Python, but not the K-quants: those are ours (`k_quants`). What is
returned is what the file holds. llama.cpp also rounds activations to 8 bits while it multiplies; that is not simulated.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mansu.bench.extras import quantizer
from mansu.bench.quantizers.k_quants import SUPER_BLOCK, Bytes, Floats, encode_q4_k, encode_q5_k, encode_q6_k

BLOCKS = {
    "Q4_0": 32,
    "Q5_0": 32,
    "Q5_1": 32,
    "Q8_0": 32,
    "Q4_K": SUPER_BLOCK,
    "Q5_K": SUPER_BLOCK,
    "Q6_K": SUPER_BLOCK,
}
"""Values of a row that a block holds; a row must be a whole number of blocks."""

_OWN = {"Q4_K": encode_q4_k, "Q5_K": encode_q5_k, "Q6_K": encode_q6_k}


def encode(weight: Tensor, kind: str) -> Bytes:
    """Return the bytes of a weight `[out, in]` as a GGUF file holds them, uint8 `[out, bytes of a row]`."""
    rows: Floats = weight.detach().float().contiguous().numpy()
    if kind in _OWN:
        return _OWN[kind](rows)
    package = _gguf()
    return np.asarray(package.quants.quantize(rows, package.GGMLQuantizationType[kind]))


def decode(packed: Bytes, kind: str) -> Tensor:
    """Return the weight that bytes stand for, float32 `[out, in]`."""
    package = _gguf()
    return torch.from_numpy(np.asarray(package.quants.dequantize(packed, package.GGMLQuantizationType[kind])))


def ggml(weight: Tensor, kind: str) -> Tensor:
    """Return a weight `[out, in]` after a GGUF file of this type of block, float32; `F16` is a plain cast."""
    if kind == "F16":
        return weight.detach().half().float()
    return decode(encode(weight, kind), kind)


def _gguf() -> Any:
    package = quantizer("gguf", "gguf", "a GGUF format")
    quantizer("gguf.quants", "gguf", "a GGUF format")
    return package
