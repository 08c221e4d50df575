"""`verify.nf4.double` against bitsandbytes' `quantize_blockwise`, bit for bit on CPU."""

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.errors import ArtefactError
from verify.nf4 import double_quantize
from verify.nf4.double import _quantize_blockwise


def assert_identical(absmax: torch.Tensor) -> None:
    offset = absmax.mean()
    codes, state = bnb.quantize_blockwise(absmax - offset, blocksize=256)
    ours = double_quantize(absmax)
    assert torch.equal(ours.offset.view(torch.int32), offset.view(torch.int32))
    assert torch.equal(ours.codes, codes)
    assert torch.equal(ours.absmax.view(torch.int32), state.absmax.view(torch.int32))
    restored = bnb.dequantize_blockwise(codes, state) + offset
    assert torch.equal(ours.scales().view(torch.int32), restored.view(torch.int32))


@given(
    count=st.integers(1, 1500),
    exponent=st.floats(-44, 34),
    spread=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 8.0]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_any_scales(count: int, exponent: float, spread: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (exponent + spread * torch.rand(count, generator=generator)).clamp(max=34)
    assert_identical(scales)


def test_every_neighbourhood_of_a_point() -> None:
    # all 65,536 points of the kernel's grid, the middles between them, and a few ulps either way
    points = np.arange(2**17 - 1) / 2 / 65535 * 2 - 1
    near = points.astype(np.float32)
    every = np.concatenate([near, np.nextafter(near, np.float32(2)), np.nextafter(near, np.float32(-2))])
    every = torch.from_numpy(every[np.abs(every) <= 1])
    rows = torch.cat([every, every.new_zeros(-len(every) % 255)]).reshape(-1, 255)
    for scale in (1.0, 0.3, 7.7e-5, 3e37):
        values = (torch.cat([torch.ones(len(rows), 1), rows], dim=1) * torch.tensor(scale)).reshape(-1)
        expected, state = bnb.quantize_blockwise(values, blocksize=256)
        codes, absmax = _quantize_blockwise(values)
        assert torch.equal(codes, expected)
        assert torch.equal(absmax, state.absmax)


@pytest.mark.parametrize("scales", [[0.5], [0.25] * 300, [0.0] * 5, [1e-45, 0.0, 0.0], [0.0, 1e-38], []])
def test_equal_scales_zeros_and_subnormals(scales: list[float]) -> None:
    absmax = torch.tensor(scales)
    if scales:
        assert_identical(absmax)
    else:
        assert double_quantize(absmax).scales().shape == (0,)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_is_refused_with_its_index(bad: float) -> None:
    with pytest.raises(ArtefactError, match="averaged") as caught:
        double_quantize(torch.tensor([1.0, 2.0, bad, bad]))
    assert caught.value.id == "MV201"
    assert caught.value.found == f"{bad} at index 2"


def test_a_sum_beyond_float32_is_refused() -> None:
    with pytest.raises(ArtefactError, match="averaged") as caught:
        double_quantize(torch.full((4,), 3e38))
    assert "mean of inf" in caught.value.found
