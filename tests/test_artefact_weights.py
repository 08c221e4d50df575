"""Which files hold a model's weights, read from a folder or from memory."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import save

from verify.artefact import parse_weights, read_weights, weights
from verify.errors import ArtefactError, UsageError

A, B = save({"a": torch.zeros(2)}), save({"b": torch.ones(2)})


def index(**weight_map: str) -> bytes:
    return json.dumps({"weight_map": weight_map}).encode()


def test_one_file_and_shards() -> None:
    single = parse_weights({"model.safetensors": A, "config.json": b"{}"})
    assert (list(single.tensors()), single.index) == (["a"], None)
    shards = {"model.safetensors.index.json": index(a="1.safetensors", b="2.safetensors")}
    sharded = parse_weights({**shards, "1.safetensors": A, "2.safetensors": B})
    assert sorted(sharded.tensors()) == ["a", "b"]
    assert sharded.index == "model.safetensors.index.json"


@pytest.mark.parametrize(
    "buffers",
    [
        {},
        {"other.safetensors": A},
        {"model.safetensors": A, "other.safetensors": B},
        {"model.safetensors": A, "model.safetensors.index.json": index(a="model.safetensors")},
        {"model.safetensors.index.json": index(a="1.safetensors")},
        {"model.safetensors.index.json": index(a="1.safetensors"), "1.safetensors": A, "2.safetensors": B},
        {"model.safetensors.index.json": index(b="1.safetensors"), "1.safetensors": A},
        {"model.safetensors.index.json": index(a="../1.safetensors"), "../1.safetensors": A},
    ],
)
def test_weights_that_loaders_could_disagree_on_are_refused(buffers: dict[str, bytes]) -> None:
    with pytest.raises(ArtefactError) as caught:
        parse_weights(buffers)
    assert caught.value.id == "MV111"


def _shards(folder: Path) -> None:
    safetensors.torch.save_file({"b": torch.ones(2)}, folder / "model-00002-of-00002.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(2)}, folder / "model-00001-of-00002.safetensors")
    weight_map = {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}
    index = {"metadata": {"total_size": 16}, "weight_map": weight_map}
    (folder / weights.INDEX_NAME).write_text(json.dumps(index))


def test_single_file_model(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / weights.SINGLE_NAME)
    model = read_weights(tmp_path)
    assert list(model.files) == [weights.SINGLE_NAME]
    assert model.index is None
    assert model.tensors().keys() == {"a"}


def test_sharded_model(tmp_path: Path) -> None:
    _shards(tmp_path)
    model = read_weights(tmp_path)
    assert list(model.files) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert model.holder("b").name == "model-00002-of-00002.safetensors"
    with pytest.raises(ArtefactError) as caught:
        model.holder("c")
    assert caught.value.id == "MV111"


def test_no_weights_and_two_kinds_of_weights(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_weights(tmp_path)
    assert (caught.value.id, caught.value.found) == ("MV111", "neither")
    _shards(tmp_path)
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / weights.SINGLE_NAME)
    with pytest.raises(ArtefactError) as caught:
        read_weights(tmp_path)
    assert caught.value.found.startswith("both")


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot list"):
        read_weights(tmp_path / "none")
