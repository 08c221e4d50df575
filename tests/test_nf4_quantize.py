"""`verify.nf4.quantize` and `dequantize` against bitsandbytes, bit for bit on CPU; on a GPU where there is one."""

from collections.abc import Iterator

import bitsandbytes.functional as bnb
import pytest
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.errors import ArtefactError, UsageError
from verify.nf4 import THRESHOLDS, dequantize, quantize

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
SMALLEST_NORMAL = 2.0**-126


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    # bitsandbytes compiles its generic dequantizer anew for every shape
    with torch.compiler.set_stance("force_eager"):
        yield


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(INTEGERS.get(tensor.dtype, tensor.dtype))


def unpacked(packed: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    flat = packed.reshape(-1)
    return torch.stack([flat >> 4, flat & 15], 1).reshape(-1)[: shape.numel()].reshape(shape)


def assert_identical(weight: torch.Tensor, block_size: int, *, double: bool = False) -> None:
    packed, state = bnb.quantize_4bit(
        weight.contiguous(), blocksize=block_size, quant_type="nf4", compress_statistics=double
    )
    ours = quantize(weight, block_size=block_size, double=double)
    values = dequantize(ours, weight.dtype)
    absmax = state.absmax
    assert torch.equal(ours.codes, unpacked(packed, weight.shape))
    if double:
        assert ours.double is not None
        assert torch.equal(ours.double.codes, state.absmax)
        assert torch.equal(bits(ours.double.absmax), bits(state.state2.absmax))
        assert torch.equal(bits(ours.double.offset), bits(state.offset))
        absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
        assert torch.equal(bits(ours.double.scales()), bits(absmax))
    else:
        assert torch.equal(bits(ours.absmax), bits(absmax))
    generic = _dequantize_4bit_compute(
        packed.reshape(-1), absmax, state.code, block_size, torch.Size([weight.numel()]), weight.dtype
    )
    assert torch.equal(bits(values.reshape(-1)), bits(generic))
    # bitsandbytes 0.50.2's C++ dequantizer restarts its blocks at every row, unlike its own quantizer and its other
    # backends; and with AVX-512 it rounds subnormal products to a bfloat16 zero
    subnormal = weight.dtype == torch.bfloat16 and bool(
        (values.float().abs() < SMALLEST_NORMAL).logical_and(values != 0).any()
    )
    if weight.shape[-1] % block_size == 0 and not subnormal:
        # of a vector it makes a matrix of one row
        assert torch.equal(bits(values.reshape(-1)), bits(bnb.dequantize_4bit(packed, state).reshape(-1)))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_random_weights(dtype: torch.dtype, block_size: int, double: bool) -> None:
    generator = torch.Generator().manual_seed(block_size)
    assert_identical((torch.randn(96, 192, generator=generator) * 0.05).to(dtype), block_size, double=double)
    whole_rows = torch.randn(3, 2 * block_size, generator=generator)
    assert_identical(whole_rows.to(dtype), block_size, double=double)


@st.composite
def any_weight(draw: st.DrawFn) -> torch.Tensor:
    """Draw a weight of any dtype and of one to three dimensions, its rows anywhere between subnormal and huge."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = [*draw(st.lists(st.integers(1, 12), max_size=2)), draw(st.integers(1, 200))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    low, high = (-8.0, 4.0) if dtype == torch.float16 else (-45.0, 37.0)
    exponent = torch.empty(*shape[:-1], 1).uniform_(low, high, generator=generator)
    if draw(st.booleans()):
        exponent.fill_(draw(st.floats(low, high)))
    kind = draw(st.sampled_from(["normal", "uniform", "few"]))
    weight = torch.randn(*shape, generator=generator) if kind == "normal" else torch.rand(*shape, generator=generator)
    weight = (weight * 8).round() / 8 if kind == "few" else weight
    limit = torch.finfo(dtype).max / 64
    return (weight * 10**exponent).clamp(-limit, limit).to(dtype)


@given(weight=any_weight(), block_size=st.sampled_from(BLOCK_SIZES), double=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_weight(weight: torch.Tensor, block_size: int, double: bool) -> None:
    assert_identical(weight, block_size, double=double)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_float32(values: list[float]) -> None:
    assert_identical(torch.tensor(values)[None], 32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("double", [False, True])
def test_every_16_bit_value_under_a_sweep_of_scales(dtype: torch.dtype, double: bool) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[torch.isfinite(every.float())]
    most = torch.finfo(dtype)
    scales = [
        1.0,
        0.75,
        0.0303,
        7.0,
        most.smallest_normal,
        most.smallest_normal / 8,
        most.smallest_normal * 5,
        most.max,
    ]
    if dtype == torch.bfloat16:
        # around where 1/s becomes subnormal, and the clamp at 1e-38
        scales += [2.0**126, 2.0**126 * 1.0078125, 2.0**127, 1.0e-38, 9.9e-39, 2.0**-118, 2.0**-119 * 1.25]
    for scale in scales:
        holder = torch.tensor(scale).to(dtype)
        inside = every[every.float().abs() <= holder.float()]
        rows = torch.cat([inside, inside.new_zeros(-inside.numel() % 63)]).reshape(-1, 63)
        weight = torch.cat([holder.expand(len(rows), 1), rows], dim=1)
        if double and scale * len(rows) > torch.finfo(torch.float32).max:
            continue  # no mean
        assert_identical(weight, 64, double=double)


def around(scale: float, reach: int = 64) -> torch.Tensor:
    """Every float32 within `reach` ulps of each threshold times the scale, in blocks that the scale heads."""
    holder = torch.tensor(scale, dtype=torch.float32)
    at = THRESHOLDS * holder
    near = bits(at)[:, None] + torch.arange(-reach, reach + 1, dtype=torch.int32)
    near = near[(near & 0x7FFFFFFF) <= bits(holder)].view(torch.float32)
    rows = torch.cat([near, near.new_zeros(-near.numel() % 63)]).reshape(-1, 63)
    return torch.cat([holder.expand(len(rows), 1), rows], dim=1)


def sweep() -> list[float]:
    """Float32 scales: one of each binade (subnormals among them) with its own mantissa, and the edges."""
    generator = torch.Generator().manual_seed(0)
    mantissa = 1 + torch.rand(276, generator=generator, dtype=torch.float64)
    binades = (mantissa * 2.0 ** torch.arange(-149, 127, dtype=torch.float64)).tolist()
    powers = [2.0**e for e in (-149, -130, -127, -126, -1, 0, 1, 126, 127)]
    return [*binades, *powers, 1e-38, 9.99e-39, 1.01e-38, 0.031, 3.3e-5, torch.finfo(torch.float32).max]


def test_float32_around_every_threshold_under_a_sweep_of_scales() -> None:
    # with monotonicity (below), this decides every other float32: docs/nf4.md
    assert_identical(torch.cat([around(scale) for scale in sweep()]), 64)


def test_the_code_changes_within_those_neighbourhoods() -> None:
    # that is, 64 ulps either way reach both sides of each threshold, wherever the scale is not clamped
    for scale in sweep():
        if scale > 1e-37:
            weight = around(scale)
            codes = quantize(weight).codes[:, 1:].reshape(-1)[: 15 * 129].reshape(15, 129)
            order = weight[:, 1:].reshape(-1)[: 15 * 129].reshape(15, 129).sort(dim=1).indices
            codes = codes.gather(1, order).int()
            assert codes[:, 0].tolist() == list(range(15))
            assert codes[:, -1].tolist() == list(range(1, 16))


@given(
    scale=st.floats(2.0**-149, torch.finfo(torch.float32).max, width=32),
    start=st.integers(0, 2**31),
    double=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_codes_never_fall_as_weights_rise(scale: float, start: int, double: bool) -> None:
    holder = torch.tensor(scale, dtype=torch.float32)
    most = int(bits(holder))
    inside = torch.arange(start, start + 2000, dtype=torch.int64) % (most + 1)
    spaced = torch.linspace(0, most, 2000, dtype=torch.float64).long()
    magnitudes = torch.cat([inside, spaced]).sort().values.int().view(torch.float32)
    ascending = torch.cat([-magnitudes.flip(0), magnitudes])
    weight = torch.cat([ascending, holder[None]])
    quantized = quantize(weight, block_size=weight.numel(), double=double)
    assert (torch.diff(quantized.codes.int()) >= 0).all()
    assert (torch.diff(dequantize(quantized)) >= 0).all()


def test_a_value_on_a_threshold_takes_the_lower_code() -> None:
    weight = torch.cat([torch.ones(1), THRESHOLDS, torch.zeros(48)])
    assert quantize(weight).codes[1:16].tolist() == list(range(15))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_blocks_signed_zeros_and_a_short_block(dtype: torch.dtype) -> None:
    weight = torch.zeros(3, 50)
    weight[2, 40:] = torch.tensor([-0.0, 1e-40, -1e-40, 0, 0, 1, -1, 2, -2, 0.5])
    assert_identical(weight.to(dtype), 64)
    assert_identical(-weight.to(dtype), 32)
    assert quantize(torch.zeros(64, dtype=dtype)).codes.unique().tolist() == [7]
    assert quantize(-torch.zeros(70, dtype=dtype)).absmax[0] == 0
    assert quantize(torch.zeros(70)).absmax[1] == torch.tensor(1e-38)  # the clamp, kept by a short block only


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_is_refused_with_its_index(dtype: torch.dtype, bad: float) -> None:
    weight = torch.zeros(2, 70, dtype=dtype)
    weight[1, 5] = bad
    weight[1, 60] = bad
    with pytest.raises(ArtefactError, match="not a finite") as caught:
        quantize(weight)
    assert caught.value.id == "MV201"
    assert f"{bad} at flat index 75" in caught.value.found


@pytest.mark.parametrize(
    ("weight", "block_size"),
    [(torch.zeros(4, dtype=torch.float64), 64), (torch.zeros(4).int(), 64), (torch.zeros(4), 0)],
)
def test_what_has_no_nf4_form_is_refused(weight: torch.Tensor, block_size: int) -> None:
    with pytest.raises(UsageError, match="cannot be quantized"):
        quantize(weight, block_size=block_size)


def test_shapes_views_and_memory() -> None:
    weight = torch.randn(6, 5, 7)
    turned = weight.transpose(0, 2)
    assert torch.equal(quantize(turned).codes, quantize(turned.contiguous()).codes)
    assert quantize(torch.tensor(0.5)).codes.item() == 15
    assert dequantize(quantize(torch.empty(0, 3))).shape == (0, 3)
    memory = torch.empty(6, 5, 7, dtype=torch.uint8)
    assert quantize(weight, out=memory).codes.data_ptr() == memory.data_ptr()
    assert torch.equal(memory, quantize(weight).codes)
    parameter = torch.nn.Parameter(weight)
    assert torch.equal(quantize(parameter).codes, memory)
    assert torch.equal(quantize(weight).scales().reshape(-1)[:64].unique(), quantize(weight).absmax[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_differs_at_thresholds_only(dtype: torch.dtype) -> None:
    # its division may be an ulp off, and 0/0 is its own: nothing further than 2⁻²⁰ from a threshold may change code
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(4096, 1024, generator=generator) * 10 ** torch.empty(4096, 1).uniform_(
        -4, 1, generator=generator
    )
    near = torch.cat([around(scale) for scale in (1.0, 0.031, 3.3e-5, 7.7e3)])
    for weight in (random.to(dtype), near.to(dtype)):
        ours = quantize(weight)
        packed, state = bnb.quantize_4bit(weight.cuda(), blocksize=64, quant_type="nf4")
        theirs = unpacked(packed.cpu(), weight.shape)
        x = weight.double() / ours.scales().double()
        distance = (x[..., None] - THRESHOLDS.double()).abs().amin(-1)
        differs = theirs != ours.codes
        print(f"{dtype}: {int(differs.sum())} of {differs.numel()} codes differ on the GPU")
        assert not (differs & (distance > 2.0**-20)).any()
        assert torch.equal(state.absmax.cpu(), ours.absmax)
