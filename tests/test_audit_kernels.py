"""What is counted of a pair, against whole-tensor arithmetic in torch, and medians against sorted values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.audit.kernels import BINS, HIGHEST, LOWEST, STEPS, count_plain, count_quantized, fine_bin, first_not_finite
from verify.audit.tally import EDGES, MEDIAN_ERROR, Tally, median
from verify.nf4 import WIDTHS, dequantize, quantize

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def counted(base: torch.Tensor, edited: torch.Tensor, block_size: int = 64) -> Tally:
    tally = Tally()
    stored = base.float().numpy(), edited.float().numpy()
    short = base.numel() // block_size * block_size
    count_quantized(stored, stored, block_size, short, tally.counts, tally.sums, tally.sizes, tally.ratios)
    return tally


def pair(count: int, share: float, size: float, dtype: torch.dtype, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights with a block of zeros, and the same with a share of them moved."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(count, generator=generator) * 0.02).to(dtype)
    base[64:128] = 0
    moved = torch.rand(count, generator=generator) < share
    edited = torch.where(moved, base.float() + torch.randn(count, generator=generator) * size, base.float()).to(dtype)
    return base, edited


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 900),
    share=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    size=st.sampled_from([1e-5, 1e-3, 0.02, 1.0]),
    dtype=st.sampled_from(DTYPES),
    block_size=st.sampled_from([32, 64, 128]),
    seed=st.integers(0, 1000),
)
def test_counts_are_those_of_the_quantizer(
    count: int, share: float, size: float, dtype: torch.dtype, block_size: int, seed: int
) -> None:
    base, edited = pair(count, share, size, dtype, seed)
    tally = counted(base, edited, block_size)
    before, after = (quantize(weight, block_size=block_size) for weight in (base, edited))
    changed, crossed = base.float() != edited.float(), before.codes != after.codes
    move = edited.double() - base.double()
    half = WIDTHS.double()[before.codes.int()] * before.scales().double() / 2
    left = dequantize(after).double() - dequantize(before).double()
    assert tally.count("changed") == int(changed.sum())
    assert tally.count("crossed") == int((changed & crossed).sum())
    assert tally.count("collateral") == int((~changed & crossed).sum())
    assert tally.count("identical") == int((changed & (left == 0)).sum())
    assert tally.count("below_half_bin") == int((changed & (move.abs() < half)).sum())
    assert tally.count("whole_bin") == int((changed & (move.abs() >= 2 * half)).sum())
    assert tally.total("update") == pytest.approx(float(move.square().sum()), rel=1e-12)
    assert tally.total("nf4") == pytest.approx(float(left.square().sum()), rel=1e-12)
    assert tally.total("dot") == pytest.approx(float((left * move).sum()), rel=1e-9, abs=1e-15)
    assert int(tally.sizes.sum()) == int(tally.ratios.sum()) == int(changed.sum())
    assert sum(tally.histogram()) == int(changed.sum())
    assert sum(tally.histogram()[: EDGES.index(1.0) + 1]) == tally.count("below_half_bin")


def test_an_absmax_that_moves_changes_codes_of_values_that_did_not() -> None:
    base = torch.linspace(-1, 1, 64)
    edited = base.clone()
    edited[-1] = 2.0
    tally = counted(base, edited)
    assert tally.count("changed") == 1
    assert tally.count("crossed") == 0  # the holder is code 15 before and after
    assert tally.count("collateral") > 30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(2.0**LOWEST, 2.0**HIGHEST, exclude_max=True), min_size=1, max_size=40))
def test_medians_are_within_their_bound(values: list[float]) -> None:
    fine = np.zeros(BINS, np.int64)
    for value in values:
        fine[fine_bin(value)] += 1
    exact = sorted(values)[(len(values) - 1) // 2]
    assert median(fine) == pytest.approx(exact, rel=MEDIAN_ERROR)


def test_bins_are_in_order_and_hold_what_lies_outside() -> None:
    edges = [2.0**power * (1 + step / STEPS) for power in (LOWEST, -1, 0, HIGHEST - 1) for step in (0, 1, STEPS - 1)]
    places = [fine_bin(edge) for edge in edges]
    assert places == sorted(set(places))
    assert fine_bin(math.nextafter(1.0, 0)) == fine_bin(1.0) - 1
    assert (fine_bin(1e-300), fine_bin(1e300), fine_bin(math.inf)) == (0, BINS - 1, BINS - 1)
    assert median(np.zeros(BINS, np.int64)) is None


def test_plain_counts() -> None:
    tally = Tally()
    old, new = np.array([1, 2, 3, 0], np.float32), np.array([1, 2.5, 2, -0.0], np.float32)
    count_plain(old, new, tally.counts, tally.sums, tally.sizes)
    assert tally.count("changed") == 2  # a zero whose sign changes is no update
    assert tally.total("update") == 1.25


@pytest.mark.parametrize(("dtype", "infinity"), [(np.uint16, 0x7F80), (np.uint32, 0x7F800000)])
def test_the_first_value_that_is_not_finite(dtype: type, infinity: int) -> None:
    bits = np.zeros(100, dtype)
    mask, limit = dtype(np.iinfo(dtype).max >> 1), dtype(infinity)
    bits[3] = infinity - 1
    assert first_not_finite(bits, mask, limit) == -1
    bits[[40, 60]] = infinity, infinity + 1
    assert first_not_finite(bits, mask, limit) == 40
    bits[2] = infinity | np.iinfo(dtype).max // 2 + 1  # minus infinity
    assert first_not_finite(bits, mask, limit) == 2
