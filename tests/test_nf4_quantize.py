"""`verify.nf4` against bitsandbytes, bit for bit, on CPU."""

import bitsandbytes.functional as bnb
import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.errors import ArtefactError
from verify.nf4 import THRESHOLDS, dequantize, quantize

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def reference(weight: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    packed, state = bnb.quantize_4bit(weight.contiguous(), blocksize=block_size, quant_type="nf4")
    codes = torch.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], 1).reshape(-1)[: weight.numel()]
    if weight.shape[-1] % block_size == 0:
        values = bnb.dequantize_4bit(packed, state)
    else:
        # bitsandbytes 0.50.2's C++ kernel restarts its blocks at every row, unlike its own quantizer and its other
        # backends, so where blocks straddle rows the reference is its generic implementation
        values = _dequantize_4bit_compute(
            packed.reshape(-1), state.absmax, state.code, block_size, weight.shape, weight.dtype
        )
    return codes.reshape(weight.shape), state.absmax, values


def assert_identical(weight: torch.Tensor, block_size: int) -> None:
    codes, absmax, values = reference(weight, block_size)
    ours = quantize(weight, block_size=block_size)
    assert torch.equal(ours.codes, codes)
    assert torch.equal(ours.absmax.view(torch.int32), absmax.view(torch.int32))
    assert torch.equal(dequantize(ours, weight.dtype), values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [64, 128, 4096])
def test_random_weights(dtype: torch.dtype, block_size: int) -> None:
    generator = torch.Generator().manual_seed(block_size)
    assert_identical((torch.randn(96, 192, generator=generator) * 0.05).to(dtype), block_size)


@given(
    values=npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.floats(-(2.0**127), 2.0**127, width=32),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_float32(values: np.ndarray) -> None:
    assert_identical(torch.from_numpy(values.copy()), 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_under_a_sweep_of_scales(dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[torch.isfinite(every.float())]
    for scale in (1.0, 0.75, 0.0303, 7.0):
        inside = every[every.float().abs() <= scale]
        rows = torch.cat([inside, inside.new_zeros(-inside.numel() % 63)]).reshape(-1, 63)
        holder = torch.full((rows.shape[0], 1), scale).to(dtype)
        assert_identical(torch.cat([holder, rows], dim=1), 64)


def test_values_around_every_threshold() -> None:
    for scale in (1.0, 0.031, 3.3e-5):
        at = THRESHOLDS * torch.tensor(scale)
        near = (at.view(torch.int32)[:, None] + torch.arange(-64, 65, dtype=torch.int32)).view(torch.float32)
        for row in near:
            padded = torch.cat([row, row.new_zeros(-row.numel() % 63)]).reshape(-1, 63)
            assert_identical(torch.cat([torch.full((padded.shape[0], 1), scale), padded], dim=1), 64)


def test_a_value_on_a_threshold_takes_the_lower_code() -> None:
    weight = torch.cat([torch.ones(1), THRESHOLDS, torch.zeros(48)])
    assert quantize(weight).codes[1:16].tolist() == list(range(15))


def test_zero_blocks_signed_zeros_and_a_short_block() -> None:
    weight = torch.zeros(3, 50)
    weight[2, 40:] = torch.tensor([-0.0, 1e-40, -1e-40, 0, 0, 1, -1, 2, -2, 0.5])
    assert_identical(weight, 64)
    assert quantize(torch.zeros(64)).codes.unique().tolist() == [7]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_is_refused_with_its_index(bad: float) -> None:
    weight = torch.zeros(2, 70)
    weight[1, 5] = bad
    with pytest.raises(ArtefactError, match="not a finite") as caught:
        quantize(weight)
    assert caught.value.id == "MV201"
    assert "index 75" in caught.value.found
