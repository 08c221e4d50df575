"""Weight files that two readers would read differently, that are no safetensors, or that crash who reads them."""

import io
import json
import pickle
import struct
import zipfile
from functools import partial

import torch
from registry import attack
from scene import Scene, header_of, tensors

from catalogue.ledger import rewrite

NAME = "model/model.safetensors"
NORM = "model.norm.weight"


def put(scene: Scene, data: bytes) -> None:
    scene.write(NAME, data)
    scene.resign()


def entry(scene: Scene) -> tuple[str, str, bytes]:
    """Return the header as text, one tensor's entry in it, and the data."""
    header, data = header_of(scene.read(NAME))
    return json.dumps(header, separators=(",", ":")), json.dumps(header[NORM], separators=(",", ":")), data


def respelt(scene: Scene, old: str, new: str) -> None:
    """Change the header's text; OLD and NEW stand for the norm's entry, in the old place and in the first."""
    text, own, data = entry(scene)
    old, new = (part.replace("OWN", own) for part in (old, new))
    assert old in text
    put(scene, tensors(text.replace(old, new, 1), data))


for _what, _old, _new in (
    ("a tensor named twice", f'"{NORM}":OWN', f'"{NORM}":OWN,"{NORM}":OWN'),
    ("a tensor named twice by an escape", f'"{NORM}":OWN', f'"{NORM}":OWN,"model.nor\\u006d.weight":OWN'),
    ("metadata twice", '{"__metadata__"', '{"__metadata__":{"format":"tf"},"__metadata__"'),
    ("two documents", "}}", "}}{}"),
    ("deep nesting", f'"{NORM}":OWN', f'"{NORM}":' + "[" * 5000 + "]" * 5000),
    ("a lone surrogate", f'"{NORM}":OWN', f'"{NORM}":OWN,"\\ud800":OWN'),
    ("a fractional shape", '"shape":[64]', '"shape":[64.0]'),
    ("a boolean shape", '"shape":[64]', '"shape":[64,true]'),
    ("a negative shape", '"shape":[64]', '"shape":[-8,-8]'),
    ("NaN for a shape", '"shape":[64]', '"shape":[NaN]'),
    ("a shape that overflows", '"shape":[64]', '"shape":[4294967296,4294967296,64]'),
    ("an overflow hidden by a zero", '"shape":[64]', '"shape":[9223372036854775807,4,0]'),
    ("a shape of five thousand digits", '"shape":[64]', '"shape":[' + "9" * 5000 + "]"),
    ("negative offsets", '"data_offsets":[0,', '"data_offsets":[-8,'),
    ("an unknown type", '"dtype":"BF16"', '"dtype":"F4"'),
    ("an unknown field", '"dtype":"BF16"', '"loader":"x","dtype":"BF16"'),
):
    attack("MV110", name=_what, process="tensor" in _what)(partial(respelt, old=_old, new=_new))


def moved(scene: Scene, by: int) -> None:
    """Let the norm's bytes begin elsewhere: over another tensor's, or past a hole."""
    header, data = header_of(scene.read(NAME))
    begin, end = header[NORM]["data_offsets"]
    header[NORM]["data_offsets"] = [begin + by, end + by]
    put(scene, tensors(header, data))


attack("MV110", name="tensors that overlap")(partial(moved, by=-2))
attack("MV110", name="a hole between tensors")(partial(moved, by=2))


@attack("MV110", process=False)
def bytes_after_the_last_tensor(scene: Scene) -> None:
    put(scene, scene.read(NAME) + b"\x00")


@attack("MV110", process=False)
def a_file_cut_short(scene: Scene) -> None:
    put(scene, scene.read(NAME)[:-1])


@attack("MV110")
def a_zip_behind_a_good_file(scene: Scene) -> None:
    """A zip is found from its end, safetensors from its beginning: one file, two models."""
    buffer = io.BytesIO(scene.read(NAME))
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr("data.pkl", b"x")
    put(scene, buffer.getvalue())


@attack("MV110")
def a_header_of_ninety_megabytes(scene: Scene) -> None:
    size = 90_000_000
    put(scene, struct.pack("<Q", size) + b'{"__metadata__":{"a":"' + b"x" * (size - 25) + b'"}}' + bytes(100))


@attack("MV110")
def a_header_of_many_small_tensors(scene: Scene) -> None:
    """Within the limit of bytes, but as objects it would take gigabytes."""
    put(scene, tensors(b'{"a":[' + b"{}," * 7_000_000 + b"0]}"))


@attack("MV110")
def a_header_length_without_end(scene: Scene) -> None:
    put(scene, b"\xff" * 8 + scene.read(NAME)[8:])


@attack("MV110", process=False)
def an_empty_file(scene: Scene) -> None:
    put(scene, b"")


class Payload:
    """What a pickle runs when it is loaded."""

    def __init__(self, scene: Scene) -> None:
        self.marker = scene.marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


@attack("MV110")
def a_pickle(scene: Scene) -> None:
    put(scene, pickle.dumps(Payload(scene)))


@attack("MV110")
def a_checkpoint_of_torch(scene: Scene) -> None:
    buffer = io.BytesIO()
    torch.save({"w": Payload(scene)}, buffer)
    put(scene, buffer.getvalue())


for _what, _data in (
    ("a GGUF file", b"GGUF" + bytes(60)),
    ("a pointer", b"version https://git-lfs.github.com/spec/v1\n"),
):
    attack("MV110", name=_what)(partial(put, data=_data))


# --- well formed, and not the model ---


def retold(scene: Scene, change: object) -> None:
    header, data = header_of(scene.read(NAME))
    put(scene, change(header, data))


def _renamed(header: dict, data: bytes) -> bytes:
    return tensors({("model.norm.w" if key == NORM else key): value for key, value in header.items()}, data)


def _another(header: dict, data: bytes) -> bytes:
    header["extra"] = {"dtype": "BF16", "shape": [1], "data_offsets": [len(data), len(data) + 2]}
    return tensors(header, data + bytes(2))


def _empty(header: dict, data: bytes) -> bytes:
    header["extra"] = {"dtype": "BF16", "shape": [0, 64], "data_offsets": [len(data), len(data)]}
    return tensors(header, data)


def _turned(header: dict, data: bytes) -> bytes:
    header["model.layers.0.mlp.down_proj.weight"]["shape"].reverse()
    return tensors(header, data)


def _other_type(header: dict, data: bytes) -> bytes:
    header[NORM]["dtype"] = "F16"
    return tensors(header, data)


for _what, _change in (
    ("a tensor under another name", _renamed), ("a tensor too many", _another), ("an empty tensor too many", _empty),
    ("a tensor turned", _turned), ("a tensor of another type", _other_type),
):  # fmt: skip
    attack("MV106", name=_what)(partial(retold, change=_change))


@attack("MV106", "MV121", either=True)
def a_mask_on_a_tensor_of_size_zero(scene: Scene) -> None:
    scene.write(NAME, _empty(*header_of(scene.read(NAME))))
    rewrite(scene, {"extra": ([0], [0])})
