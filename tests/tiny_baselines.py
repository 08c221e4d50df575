"""A tiny model that knows facts, and what a baseline is given to make it forget some of them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import certificates as c
import tiny_unlearning as t
import torch

from mansu.baselines.data import BaselineData
from mansu.data.examples import Prompts, Retained, Texts, last_log_probabilities, text_log_probabilities
from verify.behaviour.loading import empty_model, fill


class Known:
    """A model that was trained on its facts, and its data: the capitals go, the colours stay.

    The first 30 countries are trained on in the plain wording; validated are the capitals in another wording and the
    colours of the other ten. Weights are as they would be stored.
    """

    def __init__(self) -> None:
        model = t.trained_model(layers=2, steps=120)
        self.config = model.config
        self.state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
        base = self.fresh()
        retain = prompts([c.prompt("colour", n) for n in c.COUNTRIES], c.colour, c.COLOURS)
        texts = Texts(torch.tensor([c.tokenizer()(text)["input_ids"] for text in c.prose()]))
        kept = retain.subset(range(30))
        self.regions = {
            name.removesuffix(".weight"): region(name, value.shape)
            for name, value in self.state.items()
            if name.endswith("_proj.weight")
        }
        self.data = BaselineData(
            forget=prompts([c.prompt("capital", n) for n in c.COUNTRIES[:30]], c.capital, c.CAPITALS),
            forget_validation=prompts([c.held_out_wording(n) for n in c.COUNTRIES[:30]], c.capital, c.CAPITALS),
            retained=Retained(kept, last_log_probabilities(base, kept), texts, text_log_probabilities(base, texts)),
            retain_validation=retain.subset(range(30, 40)),
            stored=torch.bfloat16,
            regions=self.regions,
        )

    def fresh(self) -> Any:
        model = empty_model(self.config)
        fill(model, self.state)
        return model


def region(name: str, shape: torch.Size) -> torch.Tensor:
    """Whole layers, parts of layers and nothing at all, as circuits have it."""
    owned = torch.zeros(shape, dtype=torch.bool)
    if "down" in name or "up" in name:
        owned[:] = True
    elif "o_proj" in name or "gate" in name:
        owned[:, : shape[1] // 2] = True
    elif "layers.0" in name:
        owned[: shape[0] // 4] = True
    return owned


def prompts(texts: Sequence[str], answer: Callable[[int], str], pool: Sequence[str]) -> Prompts:
    ids = c.tokenizer()
    tokens = tuple(ids.convert_tokens_to_ids(list(pool)))
    return Prompts(
        ids=tuple(tuple(ids(text)["input_ids"]) for text in texts),
        answers=tuple(ids.convert_tokens_to_ids(answer(i)) for i in range(len(texts))),
        pools=(tokens,) * len(texts),
    )


@cache
def known() -> Known:
    """Train once a process, be the first caller a test that needs no gradients."""
    with torch.enable_grad():
        return Known()
