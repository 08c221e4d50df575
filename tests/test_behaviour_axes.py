"""Choices are decided by logits, and a tie is neither right nor wrong."""

from types import SimpleNamespace
from typing import Any

import certificates as c
import pytest
import torch
from torch import Tensor

from verify.behaviour.axes import choose
from verify.behaviour.loading import Language
from verify.behaviour.probes import Choice

WORDS = c.tokenizer().get_vocab()


def saying(logits: dict[str, float]) -> Language:
    """Return a model that always predicts these logits, and 0 for every other token."""
    row = torch.zeros(len(WORDS))
    for word, value in logits.items():
        row[WORDS[word]] = value

    def model(input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=row.expand(*input_ids.shape, -1))

    model.device = torch.device("cpu")  # type: ignore[attr-defined]
    return Language(model, c.tokenizer())


@pytest.mark.parametrize(
    ("logits", "right", "tied"),
    [
        ({"capital3": 5.0}, True, False),
        ({"capital3": 5.0, "people": 200.0}, True, False),
        ({"capital3": 5.0, "capital4": 6.0, "people": 200.0}, False, False),
        ({"capital3": 5.0, "capital4": 5.0}, False, True),
        ({}, False, True),
        ({"capital4": 5.0, "capital5": 5.0}, False, False),
    ],
    ids=["likeliest", "muted by another token", "muted and wrong", "tied", "all alike", "a tie of others"],
)
def test_the_only_likeliest_answer_is_right(logits: dict[str, float], right: bool, tied: bool) -> None:
    asked = Choice(axis="forgetting", row="r", prompt="the capital of country0 is", answer="capital3", pool="p")
    found = choose(saying(logits), [asked], {"p": c.CAPITALS})
    assert (found.correct.tolist(), found.tied.tolist()) == ([right], [tied])
    assert bool(found.mass.isfinite().all())
