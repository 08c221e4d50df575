"""Index files that point elsewhere, twice, or past what is examined. The model has three shards or so."""

import json
import shutil
from functools import partial

from registry import attack
from scene import Scene, header_of, tensors

INDEX = "model/model.safetensors.index.json"
TENSOR = "model.norm.weight"


def remap(scene: Scene, target: str) -> None:
    """Let the index name another file for one tensor."""
    scene.edit_json(INDEX, lambda index: index["weight_map"].update({TENSOR: target}))


for _what, _target in (
    ("a file above", "../secret.safetensors"), ("a file above by a detour", "x/../../secret.safetensors"),
    ("an absolute path", "/etc/secret.safetensors"), ("a backslash", "..\\secret.safetensors"),
    ("an escape", "\x1b[2J.safetensors"), ("a pickle", "pytorch_model.bin"), ("a missing file", "no.safetensors"),
):  # fmt: skip
    attack("MV111", name=f"an index names {_what}", sharded=True)(partial(remap, target=_target))


@attack("MV111", sharded=True)
def a_tensor_twice_in_the_index(scene: Scene) -> None:
    text = scene.read(INDEX).decode()
    files = json.loads(text)["weight_map"]
    other = next(name for name in files.values() if name != files[TENSOR])
    scene.write(INDEX, text.replace(f'"{TENSOR}":', f'"{TENSOR}": "{other}", "{TENSOR}":', 1))
    scene.resign()


@attack("MV111", sharded=True, process=False)
def a_tensor_in_another_file_than_listed(scene: Scene) -> None:
    files = json.loads(scene.read(INDEX))["weight_map"]
    remap(scene, next(name for name in files.values() if name != files[TENSOR]))


@attack("MV111", sharded=True)
def a_tensor_in_two_files(scene: Scene) -> None:
    files = json.loads(scene.read(INDEX))["weight_map"]
    other = "model/" + next(name for name in files.values() if name != files[TENSOR])
    header, data = header_of(scene.read(other))
    header[TENSOR] = {"dtype": "BF16", "shape": [64], "data_offsets": [len(data), len(data) + 128]}
    scene.write(other, tensors(header, data + bytes(128)))
    scene.resign()


@attack("MV111", sharded=True)
def a_tensor_that_the_index_leaves_out(scene: Scene) -> None:
    scene.edit_json(INDEX, lambda index: index["weight_map"].pop(TENSOR))


@attack("MV111", sharded=True)
def a_whole_model_beside_the_shards(scene: Scene) -> None:
    """Some loaders prefer the single file, others the index: which model is examined?"""
    shutil.copy(
        scene.made.base / json.loads(scene.read(INDEX))["weight_map"][TENSOR], scene.path("model/model.safetensors")
    )
    scene.model = scene.path("model")
    scene.resign()


@attack("MV111")
def weights_beside_those_that_are_loaded(scene: Scene) -> None:
    shutil.copy(scene.made.base / "model.safetensors", scene.path("model/model.fp16.safetensors"))
    scene.resign()


@attack("MV111", sharded=True, process=False)
def an_index_with_an_unknown_field(scene: Scene) -> None:
    scene.edit_json(INDEX, lambda index: index.update(loader="x"))


@attack("MV111", sharded=True, process=False)
def an_index_without_a_map(scene: Scene) -> None:
    scene.edit_json(INDEX, lambda index: index.update(weight_map=[]))
