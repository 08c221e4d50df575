"""The quantization state of bitsandbytes: its own is read, and nothing that could be read in two ways."""

import json

import bitsandbytes.functional as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verify.artefact.bnb import STATE, parse_state, states_of
from verify.artefact.tensors import TensorView
from verify.errors import ArtefactError

TENSOR = "w" + STATE + "nf4"
GOOD = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [32, 64]}
NESTED = {**GOOD, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.05078125}


def read(value: object) -> object:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_state(data, weight="w", tensor=TENSOR)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("block_size", [64, 4096])
def test_what_the_library_packs_is_read(nested: bool, dtype: torch.dtype, block_size: int) -> None:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    options = {"blocksize": block_size, "quant_type": "nf4", "compress_statistics": nested}
    _, state = reference.quantize_4bit(weight, **options)
    data = bytes(state.as_dict(packed=True)["quant_state.bitsandbytes__nf4"].numpy())
    found = parse_state(data, weight="w", tensor=TENSOR)
    assert (found.quant_type, found.block_size, found.shape) == ("nf4", block_size, (96, 128))
    assert found.dtype == {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    assert found.offset == (state.offset.item() if nested else None)
    assert found.blocks == 96 * 128 // block_size


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        json.dumps(GOOD).encode() + b"\0",
        json.dumps(GOOD).encode() + b"{}",
        json.dumps(GOOD)[:-1].encode() + b', "blocksize": 64}',
        json.dumps(NESTED).replace("0.05078125", "NaN").encode(),
        json.dumps(NESTED).replace("0.05078125", "1e999").encode(),
        json.dumps(GOOD).encode() + b" " * 5000,
        b"[]",
        b"",
    ],
)
def test_json_with_no_reading_or_with_two_is_refused(data: bytes) -> None:
    with pytest.raises(ArtefactError) as caught:
        read(data)
    assert caught.value.id == "MV704"


@pytest.mark.parametrize(
    "change",
    [
        {"blocksize": 63},
        {"blocksize": 0},
        {"blocksize": -64},
        {"blocksize": 2**62},
        {"blocksize": 64.0},
        {"blocksize": True},
        {"quant_type": "fp4"},
        {"quant_type": "int4"},
        {"quant_type": None},
        {"dtype": "float64"},
        {"dtype": 16},
        {"shape": []},
        {"shape": [0, 64]},
        {"shape": [-32, -64]},
        {"shape": [2**41, 1]},
        {"shape": [1] * 9},
        {"shape": "32x64"},
        {"nested_blocksize": 128},
        {"nested_dtype": "float16"},
        {"nested_offset": "0"},
        {"nested_offset": None},
        {"nested_offset": 0.1},
        {"nested_offset": 1e39},
        {"nested_offset": True},
        {"more": 1},
    ],
    ids=str,
)
def test_a_field_that_is_not_what_it_should_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtefactError) as caught:
        read({**NESTED, **change})
    assert caught.value.id == "MV704"


@pytest.mark.parametrize("missing", sorted(NESTED))
def test_a_field_that_is_missing_is_refused(missing: str) -> None:
    with pytest.raises(ArtefactError, match="fields"):
        read({name: value for name, value in NESTED.items() if name != missing})


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_state_or_a_refusal(data: bytes) -> None:
    with pytest.raises(ArtefactError):
        read(data)


def view(dtype: str = "U8", shape: tuple[int, ...] = (78,)) -> TensorView:
    return TensorView(dtype, shape, 0, 0)


def test_states_are_found_by_name() -> None:
    assert states_of({"w": view(), TENSOR: view(), "v": view()}) == {"w": TENSOR}


@pytest.mark.parametrize(
    "tensors",
    [
        {TENSOR: view(), "w" + STATE + "fp4": view()},
        {TENSOR: view(shape=(5000,))},
        {TENSOR: view(shape=(0,))},
        {TENSOR: view(shape=(2, 39))},
        {TENSOR: view("I8")},
    ],
)
def test_two_states_of_one_weight_or_one_that_is_no_string_of_bytes(tensors: dict[str, TensorView]) -> None:
    with pytest.raises(ArtefactError) as caught:
        states_of(tensors)
    assert caught.value.id == "MV704"
