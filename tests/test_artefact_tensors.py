import hashlib
import json
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.artefact.tensors import TensorView, parse
from verify.artefact.torch_tensors import DTYPES, as_torch, overwrite
from verify.errors import ArtefactError

torch.set_num_threads(1)


def _random(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    bits = torch.randint(0, 256, (*shape, dtype.itemsize), generator=torch.Generator().manual_seed(seed))
    if dtype == torch.bool:
        return bits[..., 0] > 127
    count = bits.numel() // dtype.itemsize
    return bits.to(torch.uint8).flatten().view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def _bits(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().flatten().view(torch.uint8).tolist() if tensor.numel() else []


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)
TENSORS = st.dictionaries(
    NAMES,
    st.builds(
        _random,
        st.sampled_from(list(DTYPES.values())),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
        st.integers(0, 99),
    ),
    max_size=5,
)

# Not {}: with no tensors and empty metadata safetensors 0.8.0 writes a header that it cannot read itself.
METADATA = st.none() | st.dictionaries(NAMES, NAMES, min_size=1, max_size=3)


@settings(max_examples=100, deadline=None)
@given(tensors=TENSORS, metadata=METADATA)
def test_reads_what_the_library_writes_bit_for_bit(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
) -> None:
    data = safetensors.torch.save(tensors, metadata)
    file = parse(data, name="x.safetensors")
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.metadata == (metadata or {})
    assert file.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        read = as_torch(file, name)
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        assert _bits(read) == _bits(tensor)


def test_golden_header() -> None:
    header = b'{"w":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}       '
    data = struct.pack("<Q", len(header)) + header + bytes.fromhex("803f00c0")
    file = parse(data, name="golden")
    assert file.tensors == {"w": TensorView("BF16", (2, 1), 72, 76)}
    assert as_torch(file, "w").tolist() == [[1.0], [-2.0]]


def test_order_of_the_header_is_free() -> None:
    entries = {
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [1, 1]},
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    }
    header = json.dumps(entries).encode()
    file = parse(struct.pack("<Q", len(header)) + header + b"\x07\x08", name="x")
    assert list(file.tensors) == ["b", "none", "a"]
    assert as_torch(file, "a").tolist() == [7]
    assert as_torch(file, "b").tolist() == [8]
    assert as_torch(file, "none").shape == (0, 3)


def test_as_torch_shares_memory_when_aligned_and_copies_when_not() -> None:
    aligned = safetensors.torch.save({"w": torch.arange(4.0)})
    buffer = bytearray(aligned)
    file = parse(memoryview(buffer), name="x")
    tensor = as_torch(file, "w")
    buffer[file.tensors["w"].start : file.tensors["w"].stop] = bytes(16)
    assert tensor.tolist() == [0, 0, 0, 0]
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '[:55]
    misaligned = parse(struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.5), name="x")
    assert misaligned.tensors["w"].start % 4
    copied = as_torch(misaligned, "w")
    assert copied.tolist() == [1.5]
    assert copied.data_ptr() % 4 == 0


def test_file_data_is_read_only() -> None:
    file = parse(memoryview(bytearray(safetensors.torch.save({"w": torch.zeros(1)}))), name="x")
    with pytest.raises(TypeError):
        file.data[0] = 1


def test_unknown_tensor() -> None:
    with pytest.raises(ArtefactError, match="no tensor named") as caught:
        as_torch(parse(safetensors.torch.save({"w": torch.zeros(1)}), name="x"), "v")
    assert caught.value.id == "MV110"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_overwrite_changes_exactly_the_named_elements(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.int8, torch.int64]))
    tensors = {"a": _random(dtype, (3, 5), 1), "b": _random(torch.float32, (4,), 2)}
    original = safetensors.torch.save(tensors)
    file = parse(original, name="x")
    chosen = data.draw(st.lists(st.integers(0, 14), unique=True, max_size=15))
    values = _random(dtype, (len(chosen),), 3)
    buffer = bytearray(original)
    overwrite(buffer, file, "a", torch.tensor(chosen, dtype=torch.int64), values)
    expected = tensors["a"].clone().flatten().view(torch.uint8).reshape(15, -1)
    if chosen:
        expected[chosen] = values.view(torch.uint8).reshape(len(chosen), -1)
    after = parse(bytes(buffer), name="x")
    assert _bits(as_torch(after, "a")) == expected.flatten().tolist()
    assert _bits(as_torch(after, "b")) == _bits(tensors["b"])
    assert buffer[: file.tensors["a"].start] == original[: file.tensors["a"].start]
    assert bytes(file.data) == original


@pytest.mark.parametrize(
    ("tensor", "indices", "values", "reason"),
    [
        ("v", [0], torch.zeros(1), "no such tensor"),
        ("w", [4], torch.zeros(1), "out of range"),
        ("w", [-1], torch.zeros(1), "out of range"),
        ("w", [0], torch.zeros(1, dtype=torch.float64), "dtype differs"),
        ("w", [0, 1], torch.zeros(1), "indices must be"),
        ("w", [0.0], torch.zeros(1), "indices must be"),
    ],
)
def test_overwrite_refusals_leave_the_buffer_alone(
    tensor: str, indices: list[float], values: torch.Tensor, reason: str
) -> None:
    original = safetensors.torch.save({"w": torch.ones(2, 2)})
    buffer = bytearray(original)
    with pytest.raises(ArtefactError, match=reason) as caught:
        overwrite(buffer, parse(original, name="x"), tensor, torch.tensor(indices), values)
    assert caught.value.id == "MV121"
    assert buffer == original


def test_overwrite_refuses_another_files_buffer() -> None:
    original = safetensors.torch.save({"w": torch.ones(2)})
    with pytest.raises(ArtefactError, match="not a copy"):
        overwrite(bytearray(3), parse(original, name="x"), "w", torch.tensor([0]), torch.zeros(1))
