"""The five rows: what they accept, and that each refuses what only it can refuse."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.nf4 import LEVELS, THRESHOLDS, WIDTHS, quantize, survival
from verify.nf4.rows import ROW_IDS
from verify.nf4.survival import LARGEST_SCALE, SMALLEST_SCALE, Judged, Scales, floor_targets, judge

survival_module = sys.modules["verify.nf4.survival"]  # the function of that name hides it

MARGIN = 2.0**-7


def weights(seed: int = 0) -> torch.Tensor:
    return (torch.randn(8, 128, generator=torch.Generator().manual_seed(seed)) * 0.04).bfloat16()


def one_block(value: float) -> torch.Tensor:
    return torch.cat([torch.tensor([1.0, value]), torch.zeros(62)])


def rows_of(base: float, edited: float) -> dict[str, bool]:
    found = survival(one_block(base), one_block(edited), torch.tensor([1]))
    return {row: bool(found.rows[row][0]) for row in ROW_IDS}


@given(seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_moves_to_valid_levels_satisfy_all_five_rows_even_after_bfloat16(seed: int) -> None:
    base = weights(seed)
    state = quantize(base)
    flat, scale, code = base.reshape(-1).float(), state.scales().reshape(-1), state.codes.reshape(-1)
    targets = floor_targets(flat, scale, code, margin=MARGIN) & (flat.abs() < scale)[:, None]
    choice = torch.multinomial(targets.float() + 1e-9, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    picked = targets.gather(1, choice[:, None])[:, 0] & (torch.arange(flat.numel()) % 7 == 0)
    edited = torch.where(picked, LEVELS[choice] * scale, flat).bfloat16().reshape(base.shape)
    found = survival(base, edited, picked.nonzero().reshape(-1))
    assert picked.sum() > 50
    assert all(bool(found.rows[row].all()) for row in ROW_IDS)
    assert found.collateral == 0


def test_half_a_bin_the_wrong_way_keeps_its_code() -> None:
    # just above a threshold, moved up by half the bin: the floor holds and NF4 still undoes it (T1)
    start = float(THRESHOLDS[9]) + 1e-3
    rows = rows_of(start, start + float(WIDTHS[10]) / 2)
    assert rows["floor"]
    assert not rows["crossing"]
    assert not rows["realised"]


def test_a_small_step_over_a_threshold_misses_only_the_floor_rows() -> None:
    start = float(THRESHOLDS[9]) - 0.012
    rows = rows_of(start, start + 0.024)
    assert rows["crossing"]
    assert rows["margin"]
    assert not rows["floor"]


def test_landing_next_to_a_threshold_misses_the_margin() -> None:
    rows = rows_of(0.0, float(THRESHOLDS[8]) + 1e-3)
    assert rows["floor"]
    assert rows["crossing"]
    assert not rows["margin"]


def test_a_base_value_next_to_the_new_cell_misses_the_margin() -> None:
    rows = rows_of(float(THRESHOLDS[9]) - 1e-4, float(LEVELS[10]) + 0.03)
    assert rows["crossing"]
    assert not rows["margin"]


def test_a_raised_absmax_drifts_its_neighbours() -> None:
    base = weights()
    edited = base.clone()
    edited[0, 3] = base[0, :64].abs().max() * 3
    found = survival(base, edited, torch.tensor([3]))
    assert found.collateral > 0
    assert not bool(found.rows["scale"].all())
    assert found.violations("scale").tolist() == [3]


def test_an_undeclared_change_is_collateral() -> None:
    base = weights()
    state = quantize(base)
    edited = base.clone()
    position = int((base[1].abs() < state.scales()[1] * 0.5).nonzero()[0, 0])
    edited[1, position] = -0.9 * float(state.scales()[1, position])
    assert survival(base, edited, torch.tensor([], dtype=torch.int64)).collateral == 1


def test_all_zero_blocks_never_count_as_survived() -> None:
    found = survival(torch.zeros(64), torch.zeros(64), torch.tensor([5]))
    assert not bool(found.rows["crossing"].any())
    assert not bool(found.rows["margin"].any())


def judged(
    base: list[float], edited: list[float], scale: list[float], *, divides: bool = False, margin: float = MARGIN
) -> Judged:
    values, moved, absmax = (np.array(column, np.float32) for column in (base, edited, scale))
    return judge(values, moved, Scales.plain(absmax, absmax, np.full(values.size, divides)), margin=margin)


@pytest.mark.parametrize("scale", [1.0, 0.0303, 7.0, 2.0**-100])
@pytest.mark.parametrize("divides", [False, True])
def test_codes_are_the_quantizers_on_every_threshold_and_next_to_it(scale: float, divides: bool) -> None:
    absmax = np.float32(scale)
    at = THRESHOLDS.numpy() * absmax
    near = np.concatenate([at, np.nextafter(at, np.float32(9)), np.nextafter(at, np.float32(-9)), -at])
    # a whole block multiplies by the reciprocal, a short one divides
    block = np.zeros(63 if divides else 64, np.float32)
    block[0] = absmax
    expected = []
    for value in near:
        block[1] = value
        expected.append(int(quantize(torch.from_numpy(block.copy())).codes[1]))
    found = judged([0.0] * near.size, near.tolist(), [scale] * near.size, divides=divides)
    assert found.codes_after.tolist() == expected
    assert set(found.codes_before.tolist()) == {7}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_half_a_bin_exactly_is_enough_and_less_is_not(sign: float) -> None:
    half = np.float64(WIDTHS[7]) / 2
    for moved, holds in ((half, True), (np.nextafter(half, 0), False)):
        assert (
            survival_module._realised(7, 8 if sign > 0 else 6, *_levels_apart(sign, moved), sign * moved, half) is holds
        )
    assert not survival_module._realised(7, 7, np.float32(1), np.float32(1), 0.0, 0.0)


def _levels_apart(sign: float, wanted: float) -> tuple[np.float32, np.float32]:
    """Return two scales at which code 7 (zero) and its neighbour lie `wanted` apart, or just short of it."""
    level = np.float64(LEVELS[8 if sign > 0 else 6])
    scale = np.float32(abs(wanted / level))
    while abs(np.float64(np.float32(level) * scale)) > wanted:
        scale = np.nextafter(scale, np.float32(0))
    return np.float32(1), scale


def test_scales_that_backends_treat_differently_have_no_margin() -> None:
    smallest, largest = float(SMALLEST_SCALE), float(LARGEST_SCALE)
    assert (smallest, largest) == (2.0**-121, 2.0**126)
    inside = [smallest, largest, 1.0]
    outside = [
        float(np.nextafter(SMALLEST_SCALE, np.float32(0))),
        float(np.nextafter(LARGEST_SCALE, np.float32(np.inf))),
    ]
    for scale in (*inside, *outside):
        found = judged([0.0], [float(LEVELS[11]) * scale], [scale])
        assert bool(found.rows[0] & survival_module.MARGIN) is (scale in inside)


def test_an_update_in_a_block_of_zeros_has_no_size_in_bins() -> None:
    found = survival(torch.zeros(64), one_block(0.5), torch.tensor([1]))
    assert found.half_bins.tolist() == [0.0]
    assert not bool(found.rows["margin"][0])


def test_the_margin_itself_is_margin_enough() -> None:
    x, target = 0.0, 11
    outside = float(THRESHOLDS[target - 1].double()) - x
    base, scale, code = torch.tensor([x]), torch.ones(1), torch.tensor([7])
    assert bool(floor_targets(base, scale, code, margin=outside)[0, target])
    assert not bool(floor_targets(base, scale, code, margin=float(np.nextafter(outside, 1)))[0, target])
    found = judged([x], [float(LEVELS[target])], [1.0])
    assert bool(
        judged([x], [float(LEVELS[target])], [1.0], margin=float(found.distance[0])).rows[0] & survival_module.MARGIN
    )
