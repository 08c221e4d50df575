"""Snapping: what it lands on satisfies all five rows."""

import torch

from mansu.lattice import absmax_holders, lattice, snap
from verify.nf4 import quantize, survival


def weight() -> torch.Tensor:
    return (torch.randn(16, 128, generator=torch.Generator().manual_seed(3)) * 0.05).bfloat16()


def test_nearest_valid_values_satisfy_the_five_rows() -> None:
    base = weight()
    indices = (~absmax_holders(base)).reshape(-1).nonzero().reshape(-1)[::5]
    grid = lattice(base, indices, margin=2.0**-7)
    noise = torch.randn(indices.numel(), generator=torch.Generator().manual_seed(4)) * 0.05
    target, distance = grid.nearest((grid.base + noise).clamp(-grid.scale, grid.scale))
    edited = base.clone()
    edited.view(-1)[indices] = target.to(base.dtype)
    changed = indices[target != grid.base]
    assert changed.numel() > 50
    assert bool((distance >= 0).all())
    found = survival(base, edited, changed)
    assert all(bool(row.all()) for row in found.rows.values())
    assert found.collateral == 0


def test_a_value_that_hardly_moved_returns_to_its_base_value() -> None:
    base = weight()
    indices = torch.arange(5, 40)
    grid = lattice(base, indices, margin=2.0**-7)
    target, _ = grid.nearest(grid.base + 1e-5)
    assert torch.equal(target, grid.base)


def test_every_block_has_a_holder_and_holders_are_its_absmax() -> None:
    base = weight()
    held = absmax_holders(base).reshape(-1, 64)
    assert bool((held.sum(1) >= 1).all())
    assert torch.equal(base.float().abs().reshape(-1, 64)[held].unique(), quantize(base).absmax.unique())


def test_snap_takes_the_nearest_share_of_what_is_free() -> None:
    errors = torch.tensor([0.1, 0.5, 0.2, 0.9, 0.3])
    free = torch.tensor([True, True, False, True, True])
    assert snap(errors, free, 0.5).tolist() == [True, False, False, False, True]
    assert not snap(errors, torch.zeros(5, dtype=torch.bool), 0.5).any()
    assert torch.equal(snap(errors, free, 1.0), free)
