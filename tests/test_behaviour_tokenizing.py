"""A tokenizer.json that is random, or without measure, is refused before anything is tokenized."""

import base64
import json
from typing import Any

import certificates as c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.behaviour.tokenizing import LARGEST_GROWTH, LONGEST_PIECE, TOKENIZER, growth, refuse_unbounded
from verify.errors import ArtefactError


def refusal(value: Any) -> str:
    with pytest.raises(ArtefactError) as caught:
        refuse_unbounded({TOKENIZER: json.dumps(value).encode()})
    assert caught.value.id == "MV106"
    return caught.value.message


def replacing(*contents: str) -> dict[str, Any]:
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": content} for content in contents]
    return {"normalizer": {"type": "Sequence", "normalizers": steps}, "model": {}}


def mapping(longest: int) -> dict[str, Any]:
    """Return a tokenizer with a character map in the form of sentencepiece, whose longest replacement is so long."""
    data = (8).to_bytes(4, "little") + b"\0" * 8 + b"a\0" + b"x" * longest + b"\0"
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}}


def test_what_tokenizers_are_is_let_through() -> None:
    own = json.loads(c.tokenizer().backend_tokenizer.to_str())
    for value in (own, own | {"model": own["model"] | {"dropout": None}}, replacing("\u2581", ""), mapping(18), {}):
        refuse_unbounded({TOKENIZER: json.dumps(value).encode()})
    refuse_unbounded({})


def test_dropout_is_refused() -> None:
    assert "at random" in refusal({"model": {"dropout": 1e-9}})


def test_text_that_grows_from_step_to_step_is_refused() -> None:
    assert "grow" in refusal(replacing("c" * 1000))
    assert "grow" in refusal(replacing(*["cc"] * 9))
    assert "grow" in refusal({"normalizer": {"type": "Prepend", "prepend": "x"} | replacing("c" * 300)["normalizer"]})
    assert "grow" in refusal(mapping(LARGEST_GROWTH + 1))
    refuse_unbounded({TOKENIZER: json.dumps(replacing(*["cc"] * 8)).encode()})


@given(st.lists(st.integers(0, 20), max_size=6))
def test_growth_bounds_what_replacing_makes_of_a_character(lengths: list[int]) -> None:
    text = "a"
    for length in lengths:
        text = text.replace("a", "a" * length) if len(text) < 10**5 else text
    assert len(text) <= growth(replacing(*("a" * length for length in lengths)))


def test_words_and_pieces_without_end_are_refused() -> None:
    assert "words" in refusal({"model": {"type": "WordPiece", "max_input_chars_per_word": 10**9}})
    assert "words" in refusal({"model": {"type": "WordPiece", "max_input_chars_per_word": 1e9}})
    assert "words" in refusal({"model": {"max_input_chars_per_word": "many"}})
    assert "words" in refusal({"model": {"max_input_chars_per_word": None}})
    assert "pieces" in refusal({"model": {"type": "Unigram", "vocab": [["x" * (LONGEST_PIECE + 1), -1.0]]}})
    refuse_unbounded(
        {TOKENIZER: json.dumps({"model": {"vocab": [["x", -1.0]], "max_input_chars_per_word": 100}}).encode()}
    )


@pytest.mark.parametrize(
    "data",
    [b"{", b"\xff", b'{"model": {"dropout": 1}, "model": {}}', b"[" * 100_000],
    ids=["cut", "bytes", "twice", "deep"],
)
def test_what_has_no_one_reading_is_refused(data: bytes) -> None:
    with pytest.raises(ArtefactError, match="one reading"):
        refuse_unbounded({TOKENIZER: data})
