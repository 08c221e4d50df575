"""NF4 quantization of a weight, bit for bit what bitsandbytes' `quantize_4bit(quant_type="nf4")` does on CPU."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from verify.errors import ArtefactError, UsageError
from verify.nf4.codebook import BLOCK_SIZE, LEVELS
from verify.nf4.double import DoubleQuantized, double_quantize
from verify.nf4.kernels import DType, quantize_blocks

_BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


@dataclass(frozen=True, slots=True)
class Quantized:
    """The NF4 form of a weight.

    `codes` is uint8 of the weight's shape; `absmax` is float32 `[ceil(n / block_size)]`, blocks taken row-major.
    `double` holds the same scales in 8 bits where statistics are compressed; only dequantization then uses it.
    """

    codes: Tensor
    absmax: Tensor
    block_size: int
    double: DoubleQuantized | None = None

    def scales(self) -> Tensor:
        """Return the scale s that each value was coded with, float32, of the weight's shape."""
        return block_scales(self.absmax, self.codes.shape, self.block_size)


def block_scales(absmax: Tensor, shape: torch.Size, block_size: int) -> Tensor:
    """Spread block scales `[blocks]` over the values they belong to, float32 of `shape`."""
    return absmax.repeat_interleave(block_size)[: shape.numel()].reshape(shape)


def quantize(
    weight: Tensor, *, block_size: int = BLOCK_SIZE, double: bool = False, out: Tensor | None = None, name: str = ""
) -> Quantized:
    """Quantize a float32, bfloat16 or float16 weight of any shape to NF4 (docs/nf4.md).

    `double` compresses the scales as well. `out` is uint8 memory for the codes, contiguous and of the weight's shape,
    for callers who quantize often; errors call the tensor `name`. Runs on the CPU; the result lies where the weight
    does.
    Raises `ArtefactError` MV201 for NaN or infinity, with the flat index of the first, and `UsageError` for another
    dtype or a block size below 1.
    """
    if weight.dtype not in _BITS or block_size < 1:
        raise UsageError(
            "this weight cannot be quantized",
            expected="float32, bfloat16 or float16, and blocks of at least one value",
            found=f"{weight.dtype}, blocks of {block_size}",
            remedy="convert the weight, or name the deployment's block size",
        )
    flat = weight.detach().cpu().reshape(-1)
    dtype = cast(DType, str(weight.dtype).removeprefix("torch."))
    codes, absmax, bad = quantize_blocks(
        flat.view(_BITS[weight.dtype]).numpy(),
        dtype,
        block_size,
        codes=None if out is None else out.view(-1).numpy(),
    )
    if bad >= 0:
        raise ArtefactError(
            "MV201",
            f"tensor {name!a}: a weight is not a finite number" if name else "a weight is not a finite number",
            expected="finite values only",
            found=f"{flat[bad].item()} at flat index {bad}",
            remedy="reject the file: no quantizer defines a code for it",
        )
    scales = torch.from_numpy(absmax)
    return Quantized(
        (torch.from_numpy(codes) if out is None else out).reshape(weight.shape).to(weight.device),
        scales.to(weight.device),
        block_size,
        double_quantize(scales) if double else None,
    )


def dequantize(quantized: Quantized, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return q_k · s for every value: the product in float32, then cast to `dtype`.

    Under double quantization s is the scale as its 8 bits give it.
    """
    codes, block_size = quantized.codes, quantized.block_size
    absmax = quantized.absmax if quantized.double is None else quantized.double.scales().to(codes.device)
    values = LEVELS.to(codes.device).index_select(0, codes.reshape(-1).int())
    whole = values.numel() // block_size * block_size
    values[:whole].view(whole // block_size, block_size).mul_(absmax[: whole // block_size, None])
    values[whole:].mul_(absmax[whole // block_size :])
    return values.reshape(codes.shape).to(dtype)
