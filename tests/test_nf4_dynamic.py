"""The map of double quantization, and the bounds on what any backend deploys a scale as."""

import bitsandbytes.functional as bnb
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.nf4.double import double_quantize
from verify.nf4.dynamic import deployed_bounds, dynamic_map


def test_the_map_is_bitsandbytes_bit_for_bit() -> None:
    assert dynamic_map().dtype == np.float32
    assert np.array_equal(dynamic_map(), bnb.create_dynamic_map().numpy())


@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 900), spread=st.sampled_from([0.0, 1e-4, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_the_deployed_scale_lies_within_its_bounds_wherever_the_mean_is_rounded(
    seed: int, blocks: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    absmax = 0.1 * (1 + spread * torch.rand(blocks, generator=generator))
    low, high = deployed_bounds(absmax.numpy(), np.arange(blocks))
    assert (low <= high).all()
    deployed = double_quantize(absmax).scales().numpy()
    assert (low <= deployed).all()
    assert (deployed <= high).all()


def test_bounds_are_one_step_of_the_map_to_either_side() -> None:
    absmax = torch.linspace(0.05, 0.15, 512).numpy()
    low, high = deployed_bounds(absmax, np.arange(512))
    assert ((high - low) <= 2 * 0.0141 * 0.05 + 2e-7).all()
    assert ((high - low) > 0).all()
