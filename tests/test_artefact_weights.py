"""Weights parsed from files already in memory."""

import json

import pytest
import torch
from safetensors.torch import save

from verify.artefact import parse_weights
from verify.errors import ArtefactError

A, B = save({"a": torch.zeros(2)}), save({"b": torch.ones(2)})


def index(**weight_map: str) -> bytes:
    return json.dumps({"weight_map": weight_map}).encode()


def test_one_file_and_shards(tmp_path: object) -> None:
    single = parse_weights({"model.safetensors": A, "config.json": b"{}"}, root=tmp_path)  # type: ignore[arg-type]
    assert (list(single.tensors()), single.index) == (["a"], None)
    shards = {"model.safetensors.index.json": index(a="1.safetensors", b="2.safetensors")}
    sharded = parse_weights({**shards, "1.safetensors": A, "2.safetensors": B}, root=tmp_path)  # type: ignore[arg-type]
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
def test_weights_that_loaders_could_disagree_on_are_refused(buffers: dict[str, bytes], tmp_path: object) -> None:
    with pytest.raises(ArtefactError) as caught:
        parse_weights(buffers, root=tmp_path)  # type: ignore[arg-type]
    assert caught.value.id == "MV111"
