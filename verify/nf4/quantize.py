"""NF4 quantization of a weight, bit for bit what bitsandbytes' `quantize_4bit(quant_type="nf4")` does on CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from verify.errors import ArtefactError
from verify.nf4.codebook import BLOCK_SIZE, LEVELS, THRESHOLDS

# bitsandbytes clamps the scale here, so that an all-zero block divides by something.
_SMALLEST_SCALE = 1e-38


@dataclass(frozen=True, slots=True)
class Quantized:
    """The NF4 form of a weight.

    `codes` is uint8 of the weight's shape; `absmax` is float32 `[ceil(n / block_size)]`, blocks taken row-major.
    """

    codes: Tensor
    absmax: Tensor
    block_size: int

    def scales(self) -> Tensor:
        """Return each value's own scale s, float32, of the weight's shape."""
        return block_scales(self.absmax, self.codes.shape, self.block_size)


def block_scales(absmax: Tensor, shape: torch.Size, block_size: int) -> Tensor:
    """Spread block scales `[blocks]` over the values they belong to, float32 of `shape`."""
    return absmax.repeat_interleave(block_size)[: shape.numel()].reshape(shape)


def quantize(weight: Tensor, *, block_size: int = BLOCK_SIZE) -> Quantized:
    """Quantize a float32, bfloat16 or float16 weight of any shape to NF4 (DESIGN section 2).

    Raises `ArtefactError` MV201 for NaN or infinity, with the flat index of the first.
    """
    flat = weight.detach().reshape(-1).float()
    finite = torch.isfinite(flat)
    if not bool(finite.all()):
        index = int((~finite).nonzero()[0, 0])
        raise ArtefactError(
            "MV201",
            "a weight is not a finite number",
            expected="finite values only",
            found=f"{flat[index].item()} at flat index {index}",
            remedy="reject the file: no quantizer defines a code for it",
        )
    whole = flat.numel() // block_size * block_size
    blocks = flat[:whole].reshape(-1, block_size)
    absmax = blocks.abs().amax(dim=1) if whole else flat.new_zeros(0)
    # the reference multiplies whole blocks by the reciprocal, and divides the short last one
    scaled = (blocks * (1.0 / absmax.clamp(min=_SMALLEST_SCALE))[:, None]).reshape(-1)
    if whole < flat.numel():
        last = flat[whole:].abs().max().clamp(min=_SMALLEST_SCALE)
        absmax = torch.cat([absmax, last[None]])
        scaled = torch.cat([scaled, flat[whole:] / last])
    codes = torch.bucketize(scaled.clamp(-1, 1), THRESHOLDS, out_int32=True).to(torch.uint8)
    return Quantized(codes.reshape(weight.shape), absmax, block_size)


def dequantize(quantized: Quantized, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return q_k · s for every value: the product in float32, then cast to `dtype`."""
    return (LEVELS[quantized.codes.int()] * quantized.scales()).to(dtype)
