"""Products in bfloat16: nearly the same numbers, and float32 again afterwards."""

import pytest
import torch

from mansu.precision import products


def test_products_are_nearly_the_same_in_either_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(64, 512, generator=generator) for _ in range(2))
    exact = one @ two.T
    with products("bfloat16"):
        coarse = one @ two.T
    with products("float32"):
        assert torch.equal(one @ two.T, exact)
    # a factor in bfloat16 is off by 2^-9 at most, a sum of 512 such products by a few times sqrt(512) of that
    assert float((coarse - exact).abs().max()) < 512**0.5 * 2**-9 * 8


def test_the_precision_is_put_back_even_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ValueError, match="stop"), products("bfloat16"):
        raise ValueError("stop")
    assert torch.get_float32_matmul_precision() == before
