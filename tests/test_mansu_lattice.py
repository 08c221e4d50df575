"""Snapping: what it lands on satisfies all five rows."""

import torch

from mansu.floor.lattice import absmax_holders, lattice, snap
from verify.nf4 import quantize, survival
from verify.nf4.rows import ROW_IDS, Geometry
from verify.nf4.stream import TensorStream

ALL = tuple(Geometry(size, double, cast) for size in (64, 128) for cast in ("none", "fp16") for double in (False, True))


def weight() -> torch.Tensor:
    return (torch.randn(16, 128, generator=torch.Generator().manual_seed(3)) * 0.05).bfloat16()


def test_nearest_valid_values_satisfy_the_five_rows() -> None:
    base = weight()
    indices = (~absmax_holders(base)).reshape(-1).nonzero().reshape(-1)[::5]
    grid = lattice(base, indices, geometries=ALL, margin=2.0**-7)
    noise = torch.randn(indices.numel(), generator=torch.Generator().manual_seed(4)) * 0.05
    target, distance = grid.nearest((grid.base + noise).clamp(-grid.scale, grid.scale))
    edited = base.clone()
    edited.view(-1)[indices] = target.to(base.dtype)
    changed = indices[target != grid.base]
    assert changed.numel() > 50
    assert bool((distance >= 0).all())
    for block_size in (64, 128):
        found = survival(base, edited, changed, block_size=block_size)
        assert all(bool(row.all()) for row in found.rows.values())
        assert found.collateral == 0
    old, new = (weight.reshape(-1).view(torch.uint16).numpy() for weight in (base, edited))
    stream = TensorStream("BF16", old.size, changed.numpy(), old[changed.numpy()], ALL)
    stream.feed(0, new)
    stream.feed_base(0, old)
    for tally in stream.finish(margin=2.0**-7).values():
        assert tally.satisfied == dict.fromkeys(ROW_IDS, changed.numel())
        assert not tally.overflow


def test_a_value_that_hardly_moved_returns_to_its_base_value() -> None:
    base = weight()
    indices = torch.arange(5, 40)
    grid = lattice(base, indices, geometries=ALL, margin=2.0**-7)
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


def test_holding_for_every_deployment_costs_some_values() -> None:
    base = weight()
    indices = (~absmax_holders(base)).reshape(-1).nonzero().reshape(-1)
    alone = lattice(base, indices, geometries=ALL[:1], margin=2.0**-7)
    jointly = lattice(base, indices, geometries=ALL, margin=2.0**-7)
    assert torch.equal(alone.first, alone.valid)
    assert bool((jointly.valid <= jointly.first).all())
    assert jointly.least_moves(jointly.valid).numel() == indices.numel(), "every value has one that survives everywhere"
    assert jointly.least_moves(jointly.valid).mean() > alone.least_moves(alone.valid).mean()


def test_a_holder_of_large_blocks_holds_a_small_one() -> None:
    base = weight()
    assert bool((absmax_holders(base, block_size=128) <= absmax_holders(base)).all())
