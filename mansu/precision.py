"""The precision of matrix products while training: bfloat16 factors where the processor has them, float32 sums."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["bfloat16", "float32"]


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Multiply float32 matrices in `precision`, "bfloat16" or "float32", while the context is open.

    Half the bits of the factors make a step about twice as fast on processors with AVX512_BF16 or AMX; others go on in
    float32. Only gradients are formed so: what decides (predictions to retain, when to stop, every claim) is float32.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
