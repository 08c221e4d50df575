"""The precision of matrix products while training: bfloat16 factors where that is faster, float32 sums."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["bfloat16", "float32"]


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Multiply float32 matrices in `precision`, "bfloat16" or "float32", while the context is open.

    "bfloat16" allows it (torch's "medium" precision): processors with matrix units then round the factors; on others
    oneDNN multiplies in float32, which where the default library does not use AVX-512 is faster too. Only what steers
    training is formed so, gradients, moments and the predictions that training diverges from: what decides (when to
    stop, every claim) is torch's default float32.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
