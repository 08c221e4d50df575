"""HQQ (half-quadratic quantization) to 4 bits in groups of 64, by the library itself.

As `transformers` configures it: groups along a row (axis 1), zero points rounded. The zero points are found by an
iteration that stops when the mean error of the *whole* weight no longer falls, in float32 on a CPU and in float16 on a
GPU: codes may differ between the two, and one edited value can move the codes of its whole weight.
"""

from torch import Tensor

from mansu.bench.extras import quantizer

GROUP = 64


def hqq(weight: Tensor) -> Tensor:
    """Return the weight that an `HQQLinear` of the weight's dtype computes with, float32 `[out, in]`."""
    package = quantizer("hqq.core.quantize", "hqq", "HQQ")
    settings = package.BaseQuantizeConfig(nbits=4, group_size=GROUP, axis=1)
    layer = package.HQQLinear.from_weights(
        weight.detach().clone(), None, settings, compute_dtype=weight.dtype, device="cpu"
    )
    result: Tensor = layer.dequantize()
    return result.detach().float()
