"""Hostile weight files and index files: each threat as bytes, each refused by its own check id."""

import io
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from verify.artefact import weights
from verify.artefact.tensors import MAX_HEADER, parse
from verify.errors import ArtefactError

GOOD = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def raw(header: str | bytes, data: bytes = b"") -> bytes:
    """A file with any header text and any data, however wrong."""
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text)) + text + data


def one(
    *,
    dtype: str = "F32",
    shape: str = "[2]",
    offsets: str = "[0,8]",
    data: bytes = bytes(8),
    name: str = "w",
    extra: str = "",
) -> bytes:
    entry = f'{{"dtype":{json.dumps(dtype)},"shape":{shape},"data_offsets":{offsets}{extra}}}'
    return raw(f"{{{json.dumps(name)}:{entry}}}", data)


def two(first: tuple[int, int], second: tuple[int, int], size: int) -> bytes:
    entries = {
        "a": {"dtype": "U8", "shape": [first[1] - first[0]], "data_offsets": list(first)},
        "b": {"dtype": "U8", "shape": [second[1] - second[0]], "data_offsets": list(second)},
    }
    return raw(json.dumps(entries), bytes(size))


def archive() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def polyglot() -> bytes:
    """A good file with a zip archive behind it, which zip readers find from the end."""
    buffer = io.BytesIO(raw(f'{{"w":{GOOD}}}', bytes(8)))
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr("data.pkl", b"x")
    return buffer.getvalue()


def legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


ATTACKS = {
    "duplicate tensor name": (raw(f'{{"w":{GOOD},"w":{GOOD}}}', bytes(8)), "given twice"),
    "duplicate name by escape": (raw(f'{{"w":{GOOD},"\\u0077":{GOOD}}}', bytes(8)), "given twice"),
    "duplicate metadata": (raw(f'{{"__metadata__":{{}},"__metadata__":{{}},"w":{GOOD}}}', bytes(8)), "given twice"),
    "duplicate field": (one(extra=',"dtype":"F32"'), "given twice"),
    "overlap": (two((0, 4), (2, 6), 6), "overlaps"),
    "same bytes twice": (two((0, 4), (0, 4), 4), "overlaps"),
    "hole": (two((0, 2), (4, 6), 6), "hole"),
    "hole at the start": (one(offsets="[8,16]", data=bytes(16)), "hole"),
    "trailing bytes": (one(data=bytes(9)), "after the last tensor"),
    "cut short": (one(data=bytes(7)), "cut short"),
    "bytes without tensors": (raw("{}", b"x"), "after the last tensor"),
    "zip behind a good file": (polyglot(), "after the last tensor"),
    "header over the limit": (struct.pack("<Q", MAX_HEADER + 1) + b"{" + bytes(10), "header too large"),
    "header beyond the end": (struct.pack("<Q", 100) + b"{}", "past the end"),
    "header length 2^64-1": (b"\xff" * 8 + b"{}", "header too large"),
    "empty file": (b"", "8-byte"),
    "empty header": (struct.pack("<Q", 0), "does not begin"),
    "header with leading space": (raw(" {}"), "does not begin"),
    "header is a list": (raw("[]"), "does not begin"),
    "not UTF-8": (raw(b'{"\xff":1}'), "utf-8"),
    "byte order mark": (raw(b"\xef\xbb\xbf{}"), "does not begin"),
    "two documents": (raw("{}{}"), "Extra data"),
    "NaN": (one(shape="[NaN]"), "NaN"),
    "1e999": (one(shape="[1e999]"), "not finite"),
    "deep nesting": (one(shape="[" * 5000 + "]" * 5000), "nested deeper"),
    "deep unclosed nesting": (raw('{"a":' * 100_000), "nested deeper"),
    "lone surrogate": (raw(f'{{"\\ud800":{GOOD}}}', bytes(8)), "surrogates"),
    "unknown dtype": (one(dtype="F31"), "unknown dtype"),
    "dtype of another type": (raw(f'{{"w":{GOOD.replace(chr(34) + "F32" + chr(34), "7")}}}', bytes(8)), "dtype"),
    "object dtype": (one(dtype="O"), "unknown dtype"),
    "negative shape": (one(shape="[-2]"), "shape"),
    "two negatives": (one(shape="[-1,-2]"), "shape"),
    "fractional shape": (one(shape="[2.0]"), "shape"),
    "boolean shape": (one(shape="[true,2]"), "shape"),
    "shape of text": (one(shape='["2"]'), "shape"),
    "shape is a number": (one(shape="2"), "shape"),
    "overflowing shape": (one(shape="[4294967296,4294967296,2]"), "overflows"),
    "overflow hidden by zero": (one(shape="[9223372036854775807,4,0]", offsets="[0,0]", data=b""), "overflows"),
    "shape of 4300 digits": (one(shape="[" + "9" * 5000 + "]"), "digits"),
    "rank 1000": (one(shape=json.dumps([1] * 999 + [2])), "shape"),
    "offsets too short for shape": (one(offsets="[0,4]", data=bytes(4)), "do not fit"),
    "offsets reversed": (one(offsets="[8,0]"), "data_offsets"),
    "offsets negative": (one(offsets="[-8,0]"), "data_offsets"),
    "three offsets": (one(offsets="[0,8,8]"), "data_offsets"),
    "offsets beyond the end": (one(shape="[4]", offsets="[0,16]"), "cut short"),
    "missing field": (raw('{"w":{"dtype":"F32","shape":[2]}}', bytes(8)), "fields"),
    "unknown field": (one(extra=',"x":1'), "fields"),
    "entry is no object": (raw('{"w":[]}'), "fields"),
    "control character in a name": (one(name="a\x1b[2Jb"), "control characters"),
    "line break in a name": (one(name="w\n::error::owned"), "control characters"),
    "right-to-left override in a name": (one(name="w\u202etxt"), "control characters"),
    "empty name": (one(name=""), "empty"),
    "metadata that is no string": (raw('{"__metadata__":{"a":1}}'), "metadata"),
    "metadata that is a list": (raw('{"__metadata__":[]}'), "metadata"),
    "metadata is null": (raw('{"__metadata__":null}'), "metadata"),
    "pickle": (pickle.dumps({"w": list(range(100))}), "looks like a pickle"),
    "pickle protocol 2": (pickle.dumps(["w"], protocol=2), "looks like a pickle"),
    "legacy checkpoint": (legacy(), "looks like a pickle"),
    "zipped checkpoint": (archive(), "looks like a zip"),
    "GGUF": (b"GGUF" + bytes(60), "looks like a GGUF"),
    "large file pointer": (b"version https://git-lfs\n", "looks like a Git LFS"),
}


@pytest.mark.parametrize(("data", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_hostile_weights_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        parse(data, name="model.safetensors")
    assert caught.value.id == "MV110"
    text = caught.value.diagnostic()
    assert reason in text
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)


def test_the_plain_form_of_every_attack_is_accepted() -> None:
    assert parse(one(), name="x").tensors.keys() == {"w"}
    assert parse(two((0, 2), (2, 6), 6), name="x").tensors.keys() == {"a", "b"}


def test_a_good_file_is_not_mistaken_for_a_pickle() -> None:
    for length in (0x0280, 0x0480):
        header = f'{{"w":{GOOD}}}'.ljust(length)
        assert parse(raw(header, bytes(8)), name="x").data[:1] == b"\x80"


def test_the_library_accepts_the_duplicate_name_that_we_refuse() -> None:
    first = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    data = raw(f'{{"w":{first},"w":{first}}}', struct.pack("<2f", 1, 2))
    assert safetensors.torch.load(data)["w"].tolist() == [1, 2]


@pytest.mark.parametrize("junk", [b'{"' + b'\\"' * 1_000_000, b'{"a":"' + b"x" * 2_000_000, b"{" + b"[]," * 500_000])
def test_large_hostile_headers_are_refused_quickly(junk: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ArtefactError):
        parse(raw(junk), name="x")
    assert time.process_time() - started < 5


def test_every_flipped_byte_of_a_small_file_changes_its_digest_or_is_refused() -> None:
    digests = [_digest(one())]
    for position in range(len(one())):
        changed = bytearray(one())
        changed[position] ^= 0x01
        digests.append(_digest(bytes(changed)))
    assert digests.count(digests[0]) == 1
    assert "MV110" in digests


def _digest(data: bytes) -> str:
    """The digest of an accepted file, or the id of its refusal."""
    try:
        return parse(data, name="x").sha256
    except ArtefactError as error:
        return error.id


A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def index(weight_map: object, **rest: object) -> str:
    return json.dumps({"metadata": {}, "weight_map": weight_map} | rest)


INDEX_ATTACKS = {
    "escape": (index({"a": "../secret.safetensors", "b": B}), "unsafe"),
    "escape inside": (index({"a": f"x/../../{A}", "b": B}), "unsafe"),
    "absolute": (index({"a": "/secret.safetensors", "b": B}), "unsafe"),
    "backslash": (index({"a": "..\\secret.safetensors", "b": B}), "unsafe"),
    "control character": (index({"a": "\x1b.safetensors", "b": B}), "unsafe"),
    "pickle shard": (index({"a": "pytorch_model.bin", "b": B}), "*.safetensors"),
    "shard is a number": (index({"a": 1}), "*.safetensors"),
    "listed but missing": (index({"a": A, "b": B, "c": B}), "listed but missing"),
    "present but unlisted": (index({"a": A, "b": B}), "is not listed"),
    "in another file": (index({"a": B, "b": A}), "another file"),
    "tensor twice in the index": (f'{{"weight_map":{{"a":"{A}","a":"{B}"}}}}', "given twice"),
    "tensor in two files": (index({"a": A, "b": B}), "in two files"),
    "no map": ('{"metadata":{}}', "fields"),
    "unknown field": (index({"a": A, "b": B}, loader="x"), "fields"),
    "empty map": (index({}), "not empty"),
    "map is a list": (index([]), "not empty"),
    "not JSON": ("", "strict JSON"),
}
CONTENT = {"present but unlisted": {B: ["b", "c"]}, "tensor in two files": {B: ["a", "b"]}}


@pytest.mark.parametrize("attack", INDEX_ATTACKS)
def test_hostile_index_files_are_refused(tmp_path: Path, attack: str) -> None:
    text, reason = INDEX_ATTACKS[attack]
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    for shard, names in ({A: ["a"], B: ["b"]} | CONTENT.get(attack, {})).items():
        safetensors.torch.save_file({name: torch.zeros(1) for name in names}, folder / shard)
    (folder / weights.INDEX_NAME).write_text(text)
    with pytest.raises(ArtefactError) as caught:
        weights.read_weights(folder)
    assert caught.value.id == "MV111"
    assert reason in caught.value.diagnostic()


def test_a_shard_that_is_a_link_or_absent_is_refused(tmp_path: Path) -> None:
    (tmp_path / weights.INDEX_NAME).write_text(index({"a": A}))
    with pytest.raises(ArtefactError) as caught:
        weights.read_weights(tmp_path)
    assert caught.value.id == "MV111"
    (tmp_path / A).symlink_to("/dev/zero")
    with pytest.raises(ArtefactError) as caught:
        weights.read_weights(tmp_path)
    assert caught.value.id == "MV101"
