"""The bound from block scales alone: never below the exact one, and what is counted are the base's blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.nf4.codebook import WIDTHS_F32
from verify.nf4.maxima import block_maxima
from verify.nf4.reach import NARROWEST, Reach, count_values, empty_counts
from verify.nf4.survival import survival
from verify.nf4.tradeoff import floor_costs, largest_count

KINDS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def bits_of(weight: torch.Tensor) -> np.ndarray:
    return weight.reshape(-1).view(getattr(torch, f"uint{8 * weight.itemsize}")).numpy()


def reach_of(weight: torch.Tensor, kind: str, block_size: int = 64) -> Reach:
    counts = empty_counts()
    count_values(block_maxima(bits_of(weight), block_size), weight.numel(), block_size, counts)
    return Reach.of(counts, kind)


def weights(seed: int, kind: str, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** torch.empty(-(-count // 64)).uniform_(-4, 0, generator=generator)
    weight = torch.randn(count, generator=generator) * scales.repeat_interleave(64)[:count]
    weight[64:128] = 0
    return weight.to(KINDS[kind])


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(list(KINDS)),
    count=st.sampled_from([1, 63, 64, 200, 64 * 40, 64 * 40 + 7]),
)
@settings(deadline=None, max_examples=30)
def test_it_lies_above_the_exact_bound_by_no_more_than_the_widths_allow(seed: int, kind: str, count: int) -> None:
    weight = weights(seed, kind, count)
    reach = reach_of(weight, kind)
    exact = np.sort(floor_costs(weight))
    exact = exact[np.isfinite(exact)]
    norms = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 40)])
    mine, best = reach.at_most(norms), largest_count(exact, norms**2)
    assert (mine >= best).all()
    assert (np.diff(mine) >= 0).all()
    widest = float(WIDTHS_F32.max()) / NARROWEST  # even if all were in the widest cell
    assert (mine <= largest_count(exact, (norms * widest * 1.01) ** 2) + 1).all()
    assert mine[-1] == reach.counts.sum() == exact.size
    assert reach.total == count
    assert reach.at_most(np.array([reach.whole() * 1.01]))[0] == exact.size


@given(
    seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 1e-2, 0.1, 1.0]), share=st.sampled_from([0.01, 0.3, 1.0])
)
@settings(deadline=None, max_examples=30)
def test_no_update_satisfies_the_rows_more_often_than_it_says(seed: int, size: float, share: float) -> None:
    base = weights(seed, "F32", 64 * 30)
    generator = torch.Generator().manual_seed(seed + 1)
    indices = torch.randperm(base.numel(), generator=generator)[: max(1, int(share * base.numel()))].sort().values
    edited = base.clone()
    edited[indices] += size * torch.randn(indices.numel(), generator=generator)
    rows = survival(base, edited, indices).rows
    surviving = int(torch.stack(list(rows.values())).all(0).sum())
    norm = float((edited.double() - base.double()).norm())
    assert surviving <= reach_of(base, "F32").at_most(np.array([norm]))[0]


def test_the_cheapest_go_first_and_a_whole_block_costs_alike() -> None:
    weight = torch.cat([torch.full((64,), 0.5), torch.full((64,), 2.0)]).bfloat16()
    reach = reach_of(weight, "BF16")
    cheap, dear = 0.5 * NARROWEST / 2, 2.0 * NARROWEST / 2
    norms = np.sqrt([0.99 * cheap**2, 1.01 * cheap**2, 64.01 * cheap**2, 64 * cheap**2 + 1.01 * dear**2])
    assert reach.at_most(norms).tolist() == [0, 1, 64, 65]
    assert reach.within(cheap) == 64
    assert reach.within(cheap * 0.99) == 0
    assert reach.within(dear) == 128
    assert reach.middle() == cheap
    assert reach.whole() == pytest.approx(8 * math.hypot(cheap, dear))


def test_a_short_last_block_counts_what_it_has() -> None:
    assert reach_of(torch.ones(70).half(), "F16").counts.tolist() == [70]
    assert reach_of(torch.zeros(70), "F32").counts.size == 0
    assert reach_of(torch.zeros(70), "F32").at_most(np.array([0.0, 1e9])).tolist() == [0, 0]
