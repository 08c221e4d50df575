"""The five rows: what they accept, and that each refuses what only it can refuse."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.nf4 import LEVELS, THRESHOLDS, WIDTHS, quantize, survival
from verify.nf4.survival import ROW_IDS, floor_targets

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
