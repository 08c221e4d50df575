"""`verify.nf4.kernels` on raw bits, against the definition in plain NumPy."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from numpy.typing import NDArray

from verify.nf4 import kernels
from verify.nf4.codebook import LEVELS_F32, THRESHOLDS_F32
from verify.nf4.kernels import code_tables, empty_codes, quantize_blocks
from verify.nf4.lanes import REACH

INTEGERS = {"bfloat16": np.uint16, "float16": np.uint16, "float32": np.uint32}
INFINITY = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
DTYPES = list(INTEGERS)


def as_float32(bits: NDArray, dtype: str) -> NDArray[np.float32]:
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(np.float16).astype(np.float32) if dtype == "float16" else bits.view(np.float32)


def definition(bits: NDArray, dtype: str, block_size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    weight = as_float32(bits, dtype)
    codes, scales = [np.empty(0, np.int64)], []
    for start in range(0, len(weight), block_size):
        block = weight[start : start + block_size]
        scale = np.abs(block).max()
        clamped = max(scale, np.float32(1e-38))
        whole = len(block) == block_size
        x = block * (np.float32(1) / clamped) if whole else block / clamped
        codes.append(np.searchsorted(THRESHOLDS_F32, x))
        scales.append(scale if whole else clamped)
    return np.concatenate(codes).astype(np.uint8), np.array(scales, np.float32)


def assert_defined(bits: NDArray, dtype: str, block_size: int) -> None:
    codes, absmax, bad = quantize_blocks(bits, dtype, block_size)  # type: ignore[arg-type]
    expected, scales = definition(bits, dtype, block_size)
    assert bad == -1
    assert np.array_equal(codes, expected)
    assert np.array_equal(absmax.view(np.uint32), scales.view(np.uint32))


@st.composite
def finite_bits(draw: st.DrawFn) -> tuple[NDArray, str]:
    """Any bits of finite values, often with exponents near each other, so that every code occurs."""
    dtype = draw(st.sampled_from(DTYPES))
    integer = INTEGERS[dtype]
    width = np.iinfo(integer).bits
    top = INFINITY[dtype] - 1
    centre = draw(st.integers(0, top))
    spread = draw(st.sampled_from([top, top >> 4, top >> 6]))
    magnitude = st.integers(max(0, centre - spread), min(top, centre + spread))
    value = st.tuples(magnitude, st.booleans()).map(lambda pair: pair[0] | pair[1] << width - 1)
    return draw(npst.arrays(integer, st.integers(0, 300), elements=value)), dtype


@given(weight=finite_bits(), block_size=st.sampled_from([1, 7, 32, 48, 64, 96, 128, 192, 256, 4096]))
@settings(max_examples=120, deadline=None)
def test_any_bits_any_block_size(weight: tuple[NDArray, str], block_size: int) -> None:
    assert_defined(*weight, block_size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_16_bit_value_under_a_sweep_of_scales(dtype: str) -> None:
    infinity = INFINITY[dtype]
    every = np.concatenate([np.arange(infinity), 0x8000 + np.arange(infinity)]).astype(np.uint16)
    # every exponent with some mantissas, and every mantissa of a few exponents: least, middle, where the table ends
    scales = set(range(1, infinity, 97)) | set(range(0x3F00, 0x3F80)) | {1, 2, infinity - 1}
    scales |= {0x47F, 0x480, 0x481, 0x7E7F, 0x7E80, 0x7E81} if dtype == "bfloat16" else set()
    for scale in sorted(scale for scale in scales if scale < infinity):
        inside = every[(every & 0x7FFF) <= scale]
        # only the neighbourhood of a scale has more than one code: keep all that, and thin the rest
        near = (inside & 0x7FFF) + (8 << (7 if dtype == "bfloat16" else 10)) >= scale
        inside = np.concatenate([inside[near], inside[~near][::37]])
        rows = np.resize(inside, (-(-len(inside) // 63), 63))
        assert_defined(np.insert(rows, 0, scale, axis=1).reshape(-1), dtype, 64)


def test_the_table_is_the_ladder_for_every_mantissa_and_place() -> None:
    # the same values at block size 32, which has no table, and at 64, which has
    for mantissa in range(128):
        for exponent in (10, 126, 251):
            scale = exponent << 7 | mantissa
            near = np.arange(max(0, scale - 1023), scale + 1).astype(np.uint16)
            values = np.resize(np.concatenate([near, near | 0x8000]), 68 * 31)
            rows = np.insert(values.reshape(-1, 31), 0, scale, axis=1)
            without, absmax, _ = quantize_blocks(rows.reshape(-1), "bfloat16", 32)
            with_table, _, _ = quantize_blocks(rows.reshape(-1), "bfloat16", 64)
            assert np.array_equal(without, with_table)
            assert (absmax == as_float32(np.array([scale], np.uint16), "bfloat16")).all()


def test_tables_hold_every_code_in_order() -> None:
    low, high, cut = code_tables().reshape(128, 3, 64).transpose(1, 0, 2).astype(int)
    assert set(low.reshape(-1)) | set(high.reshape(-1)) == set(range(16))
    assert (np.abs(low - high) <= 1).all()
    assert ((low == high) == (cut == 255)).all()
    assert (np.diff(low[:, :32]) >= 0).all()  # larger magnitude, higher code
    assert (np.diff(low[:, 32:]) <= 0).all()  # of negative sign, lower code
    assert (low[:, [0, 32]] == 7).all()
    assert REACH < 1024 - 7  # the scale itself lies inside the table


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [32, 64])
def test_the_first_value_that_is_not_finite(dtype: str, block_size: int) -> None:
    integer, infinity = INTEGERS[dtype], INFINITY[dtype]
    width = np.iinfo(integer).bits
    for bad in (infinity, infinity + 1, infinity | 1 << width - 1, 2 ** (width - 1) - 1, 2**width - 1):
        for index in (0, 63, 64, 99, 199):
            bits = np.full(200, infinity - 1, integer)
            bits[index:] = bad
            assert quantize_blocks(bits, dtype, block_size)[2] == index  # type: ignore[arg-type]


def test_monotone_in_the_weight() -> None:
    # all finite float16 and bfloat16 values in ascending order, under one scale: codes never fall
    for dtype, infinity in (("bfloat16", 0x7F80), ("float16", 0x7C00)):
        for scale in (infinity - 1, infinity // 2 + 37, 3):
            ascending = np.concatenate([0x8000 + np.arange(scale, -1, -1), np.arange(scale + 1)]).astype(np.uint16)
            codes, _, _ = quantize_blocks(ascending, dtype, len(ascending))  # type: ignore[arg-type]
            assert (np.diff(codes.astype(int)) >= 0).all()


def test_given_memory_is_used_aligned_or_not() -> None:
    bits = np.random.default_rng(0).integers(0x3C00, 0x3D00, 640).astype(np.uint16)
    expected, _ = definition(bits, "bfloat16", 64)
    for offset in (0, 1, 32):
        memory = empty_codes(704)
        memory.fill(99)
        codes, _, _ = quantize_blocks(bits, "bfloat16", 64, codes=memory[offset : offset + 640])
        assert np.shares_memory(codes, memory)
        assert np.array_equal(codes, expected)
        assert (memory[:offset] == 99).all()
        assert (memory[offset + 640 :] == 99).all()


def test_the_input_is_left_alone_and_may_be_read_only() -> None:
    bits = np.array([0x3F80, 0xBF80, 0], np.uint16)
    quantize_blocks(bits, "bfloat16", 64)
    assert bits.flags.writeable
    assert quantize_blocks(np.frombuffer(bits.tobytes(), np.uint16), "bfloat16", 64)[0].tolist() == [15, 0, 7]


def test_threads_share_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.random.default_rng(1).integers(0, 0x7F80, 10_000).astype(np.uint16)
    alone = quantize_blocks(bits, "bfloat16", 64)
    monkeypatch.setattr(kernels, "_TASK", 640)
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 3)
    shared = quantize_blocks(bits, "bfloat16", 64)
    assert np.array_equal(alone[0], shared[0])
    assert np.array_equal(alone[1], shared[1])
    bits[[7_001, 3_333]] = 0x7F80
    assert quantize_blocks(bits, "bfloat16", 64)[2] == 3_333


def test_levels_are_coded_as_themselves() -> None:
    weight = np.resize(LEVELS_F32, 64)
    assert quantize_blocks(weight.view(np.uint32), "float32", 64)[0].tolist() == list(range(16)) * 4


def test_a_processor_without_avx_gives_the_same_codes(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from verify.nf4.kernels import quantize_blocks; from verify.nf4.lanes import *;"
        "assert not HAS_BYTE_TABLES; bits = np.load('bits.npy');"
        "np.save('codes.npy', np.stack([quantize_blocks(bits, dtype, 64)[0] for dtype in ('bfloat16', 'float16')]))"
    )
    bits = np.random.default_rng(2).integers(0, 0x7C00, (320, 64)).astype(np.uint16)
    bits[::2] = 0x3800 + bits[::2] % 1024  # blocks of one exponent or few
    bits |= (np.random.default_rng(3).integers(0, 2, bits.shape) << 15).astype(np.uint16)
    np.save(tmp_path / "bits.npy", bits.reshape(-1))
    settings = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    paths = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | settings | paths)
    for codes, dtype in zip(np.load(tmp_path / "codes.npy"), ("bfloat16", "float16"), strict=True):
        assert np.array_equal(codes, definition(bits.reshape(-1), dtype, 64)[0])
