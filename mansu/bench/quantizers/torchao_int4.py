"""torchao's int4 weight-only format on the CPU, read out of its own kernel.

Asymmetric, 16 levels from the minimum to the maximum of each group of a row, scale and zero point in the weight's
dtype. torchao 0.18 keeps the CPU's packing under `prototype`; the packings of `Int4WeightOnlyConfig` need a GPU, and
choose scales and codes by the same rule. A weight whose rows are not whole groups is left as it is, by torchao's rule.
"""

import torch
from torch import Tensor

from mansu.bench.extras import quantizer

GROUP = 128
"""torchao's default group."""


def int4(weight: Tensor, *, group: int = GROUP) -> Tensor:
    """Return the weight that torchao's CPU kernel multiplies with, float32 `[out, in]`, rounded to the stored dtype.

    It is what the quantized layer makes of the identity matrix: one product and no sum an output.
    """
    package = quantizer("torchao.prototype.quantization.int4", "torchao", "int4 of torchao")
    packed = package.Int4OpaqueTensor.from_hp(weight.detach().contiguous(), [1, group])
    one = torch.eye(weight.shape[1], dtype=weight.dtype)
    return torch.nn.functional.linear(one, packed).T.float().contiguous()
