"""Hostile tokenizers, whose panics no `except Exception` catches, are a refusal of the folder like any other."""

import copy
import json
from pathlib import Path
from typing import Any

import certificates as c
import pytest

from verify.behaviour.loading import open_folder
from verify.behaviour.refusing import GuardedTokenizer, refusing
from verify.errors import ArtefactError, UsageError


class Panic(BaseException):
    """As pyo3 raises it."""


def folder(base: Path, change: dict[str, Any]) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in base.iterdir() if path.suffix != ".safetensors"}
    files["tokenizer.json"] = json.dumps(json.loads(files["tokenizer.json"]) | change).encode()
    return files


def test_a_panic_is_a_refusal_and_an_interrupt_is_not() -> None:
    with pytest.raises(ArtefactError, match="it broke") as refused, refusing("it broke"):
        raise Panic("first line\nsecond")
    assert (refused.value.id, refused.value.found) == ("MV106", "first line")
    for other in (KeyboardInterrupt(), SystemExit(3), UsageError("mine")):
        with pytest.raises(type(other)), refusing("it broke"):
            raise other


def test_a_tokenizer_that_panics_on_loading_is_refused(tiny_base: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be read") as refused:
        open_folder(folder(tiny_base, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}}))
    assert refused.value.id == "MV106"


def test_a_tokenizer_that_panics_on_use_is_refused(tiny_base: Path) -> None:
    opened = open_folder(folder(tiny_base, {"pre_tokenizer": {"type": "FixedLength", "length": 0}}))
    with pytest.raises(ArtefactError, match="cannot be used") as refused:
        opened.tokenizer("the capital")
    assert refused.value.id == "MV106"


def test_all_else_is_the_tokenizers_own() -> None:
    own = c.tokenizer()
    guarded = GuardedTokenizer(own)
    assert guarded("the capital")["input_ids"] == own("the capital")["input_ids"]
    assert guarded.get_vocab() == own.get_vocab()
    assert copy.copy(guarded)("the")["input_ids"] == own("the")["input_ids"]
    with pytest.raises(AttributeError):
        _ = guarded.nothing_of_the_kind
