"""The streamed rows are those of the tensor in memory, whatever the pieces, types, casts and block sizes."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.nf4 import quantize, survival
from verify.nf4.codebook import THRESHOLDS_F32
from verify.nf4.dynamic import deployed_bounds
from verify.nf4.rows import FINE, LARGEST_BLOCK, ROW_IDS, Geometry, Tally
from verify.nf4.stream import TensorStream
from verify.nf4.values import first_not_finite, largest_magnitude, values_of

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
CASTS = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MARGIN = 2.0**-7


def bits_of(weight: torch.Tensor) -> np.ndarray:
    return weight.reshape(-1).view(getattr(torch, f"uint{8 * weight.itemsize}")).numpy()


def edited_pair(seed: int, dtype: torch.dtype, count: int, share: float) -> tuple[torch.Tensor, ...]:
    """Return base, edited and indices: random moves, some of which raise or lower an absmax."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(count, generator=generator) * 0.04).to(dtype)
    indices = torch.randperm(count, generator=generator)[: max(1, int(share * count))].sort().values
    edited = base.clone()
    edited[indices] = (edited[indices].float() + 0.04 * torch.randn(indices.numel(), generator=generator)).to(dtype)
    changed = edited[indices] != base[indices]
    return base, edited, indices[changed]


def streamed(
    base: torch.Tensor, edited: torch.Tensor, indices: torch.Tensor, kind: str, pieces: int, *wanted: Geometry
) -> dict[Geometry, Tally]:
    old, new = bits_of(base), bits_of(edited)
    stream = TensorStream(kind, old.size, indices.numpy(), old[indices.numpy()], wanted)
    step = pieces * LARGEST_BLOCK
    peaks = []
    for start in range(0, old.size, step):
        peaks.append(stream.feed(start, new[start : start + step]))
        stream.feed_base(start, old[start : start + step])
    assert max(peaks) == largest_magnitude(new)
    return stream.finish(margin=MARGIN)


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(list(DTYPES)),
    count=st.sampled_from([1, 63, 64, 100, 5000, 3 * LARGEST_BLOCK, 3 * LARGEST_BLOCK + 77]),
    share=st.sampled_from([0.002, 0.05, 0.5]),
    block_size=st.sampled_from([32, 64, 128, 4096]),
    cast=st.sampled_from(list(CASTS)),
    pieces=st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_agrees_with_the_tensor_in_memory(
    seed: int, kind: str, count: int, share: float, block_size: int, cast: str, pieces: int
) -> None:
    base, edited, indices = edited_pair(seed, DTYPES[kind], count, share)
    geometry = Geometry(block_size, False, cast)
    tally = streamed(base, edited, indices, kind, pieces, geometry, Geometry(32))[geometry]
    deployed = CASTS[cast] or DTYPES[kind]
    found = survival(base.to(deployed), edited.to(deployed), indices, block_size=block_size)
    assert tally.masked == indices.numel()
    assert tally.satisfied == {row: int(found.rows[row].sum()) for row in ROW_IDS}
    assert tally.collateral == found.collateral
    assert tally.codes_before.tolist() == torch.bincount(found.codes_before.long(), minlength=16).tolist()
    assert tally.codes_after.tolist() == torch.bincount(found.codes_after.long(), minlength=16).tolist()
    assert tally.updates[2 * FINE :].sum() == int((found.half_bins >= 2).sum())
    assert tally.margins.sum() == tally.updates.sum() == tally.masked
    for row in ROW_IDS:
        if row in tally.violations:
            assert tally.violations[row].index == int(found.violations(row)[0])
        else:
            assert not found.violations(row).numel()


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(list(DTYPES)), scale=st.sampled_from([1.0, 1e-3, 3e-5]))
@settings(max_examples=40, deadline=None)
def test_geometries_asked_together_are_those_asked_alone(seed: int, kind: str, scale: float) -> None:
    base, edited, indices = edited_pair(seed, DTYPES[kind], 6000, 0.3)
    base, edited = ((value.float() * scale).to(value.dtype) for value in (base, edited))
    indices = indices[base[indices] != edited[indices]]
    every = [Geometry(size, double, cast) for size in (64, 128) for cast in CASTS for double in (False, True)]
    together = streamed(base, edited, indices, kind, 1, *every)
    for geometry in every:
        alone = streamed(base, edited, indices, kind, 1, geometry)[geometry]
        for one, other in zip(dataclasses.astuple(alone), dataclasses.astuple(together[geometry]), strict=True):
            assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def division_matters(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    """Return a value and a scale whose quotient, rounded, lies on another side of a threshold than their product."""
    while True:
        scales = rng.uniform(0.5, 2, 10_000).astype(np.float32)
        values = THRESHOLDS_F32[rng.integers(0, 15, scales.size)] * scales
        divided, multiplied = values / scales, values * (np.float32(1) / scales)
        differ = np.flatnonzero(np.searchsorted(THRESHOLDS_F32, divided) != np.searchsorted(THRESHOLDS_F32, multiplied))
        if differ.size:
            return values[differ[0]], scales[differ[0]]


@pytest.mark.parametrize("before", [0, 64])
def test_the_first_value_of_a_short_block_is_divided_and_one_of_a_whole_block_multiplied(before: int) -> None:
    value, scale = division_matters(np.random.default_rng(before))
    for short in (False, True):
        base = torch.zeros(before + (3 if short else 64), dtype=torch.float32)
        base[:before] = 1.0
        base[before], base[before + 1] = float(value), float(scale)
        edited = base.clone()
        edited[before] = -0.5 * float(scale)
        tally = streamed(base, edited, torch.tensor([before]), "F32", 1, Geometry(64))[Geometry(64)]
        code = quantize(base).codes.reshape(-1)[before]
        assert tally.codes_before.argmax() == code
        assert survival(base, edited, torch.tensor([before])).codes_before[0] == code


def test_an_unmasked_first_value_of_a_short_block_is_divided() -> None:
    """Its scale rises by an edit beside it: by division its code changes, by multiplication it would not, or so."""
    rng, outcomes = np.random.default_rng(3), set()
    while len(outcomes) < 2:
        value, scale = division_matters(rng)
        base = torch.tensor([float(value), float(scale), 0.1], dtype=torch.float32)
        edited = base.clone()
        edited[1] = float(np.nextafter(scale, np.float32(4) if rng.random() < 0.5 else np.float32(0)))
        changed = quantize(base).codes.reshape(-1)[0] != quantize(edited).codes.reshape(-1)[0]
        for one, other in ((base, edited), (edited, base)):
            tally = streamed(one, other, torch.tensor([1]), "F32", 1, Geometry(64))[Geometry(64)]
            assert tally.collateral == int(changed)
            outcomes.add(tally.collateral)


@given(seed=st.integers(0, 10**6), block_size=st.sampled_from([64, 128]))
@settings(max_examples=30, deadline=None)
def test_double_quantization_changes_the_realised_row_alone(seed: int, block_size: int) -> None:
    base, edited, indices = edited_pair(seed, torch.bfloat16, 40_000, 0.01)
    wanted = (Geometry(block_size, False), Geometry(block_size, True))
    plain, compressed = streamed(base, edited, indices, "BF16", 2, *wanted).values()
    for row in set(ROW_IDS) - {"realised"}:
        assert plain.satisfied[row] == compressed.satisfied[row]
    absmax = quantize(base, block_size=block_size).absmax.numpy()
    low, high = deployed_bounds(absmax, np.arange(absmax.size))
    assert bool((low <= absmax * 1.02).all())
    assert bool((high >= absmax * 0.98).all())


def test_a_scale_that_double_quantization_loses_misses_the_realised_row() -> None:
    base = torch.randn(256 * 64, generator=torch.Generator().manual_seed(0)) * 1e-6
    base[:64] = torch.linspace(-1, 1, 64)  # one block decides the 8-bit step of all others
    base = base.bfloat16()
    edited, indices = base.clone(), torch.tensor([64 * 100 + 5])
    edited[indices] = (-0.5 * base[6400:6464].abs().max() * base[indices].sign()).bfloat16()
    plain, compressed = streamed(base, edited, indices, "BF16", 1, Geometry(64), Geometry(64, True)).values()
    assert plain.satisfied["realised"] == 1
    assert compressed.satisfied["realised"] == 0
    assert compressed.violations["realised"].index == 6405


def test_a_cast_that_overflows_is_reported() -> None:
    base = torch.ones(128)
    base[0] = 1e5
    edited = base.clone()
    edited[7] = 5e4
    found = streamed(base, edited, torch.tensor([7]), "F32", 1, Geometry(), Geometry(cast="fp16"))
    assert [tally.overflow for tally in found.values()] == [False, True]


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("cast", CASTS)
def test_values_and_casts_are_torchs(kind: str, cast: str) -> None:
    if kind == "F32":
        weight = torch.randn(10_000, generator=torch.Generator().manual_seed(1)) * 10.0 ** torch.arange(-50, 50).repeat(
            100
        )
        weight = weight[torch.isfinite(weight)]
    else:
        weight = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(DTYPES[kind])
        weight = weight[torch.isfinite(weight.float())]
    expected = weight.to(CASTS[cast] or weight.dtype).float()
    assert torch.equal(torch.from_numpy(values_of(bits_of(weight), kind, cast)), expected)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_value_that_is_not_finite(kind: str, bad: float) -> None:
    weight = torch.randn(9000).to(DTYPES[kind])
    bits = bits_of(weight)
    assert first_not_finite(bits, kind, largest_magnitude(bits)) is None
    weight[[5000, 8999]] = bad
    assert first_not_finite(bits, kind, largest_magnitude(bits)) == 5000
