"""Texts that follow a prompt: their tokens, and how likely a model finds them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_IGNORED = -100
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Completion:
    """Token ids of a prompt and what follows it; the first `prompt` of them are the prompt."""

    ids: tuple[int, ...]
    prompt: int


def ask(question: str) -> str:
    """Return a question as a prompt, in the format that TOFU uses for plain models."""
    return f"Question: {question}\nAnswer:"


def complete(tokenizer: Any, pairs: Iterable[tuple[str, str]]) -> list[Completion]:
    """Tokenize prompts with what follows them after a space, and the end of the text where the tokenizer has one.

    As in TOFU's own evaluation, the end of the text is a token of the answer, and the answer starts where the prompt's
    own tokens end.
    """
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return [
        Completion((*tokenizer(f"{prompt} {text}")["input_ids"], *end), len(tokenizer(prompt)["input_ids"]))
        for prompt, text in pairs
    ]


def losses(model: Any, completions: Sequence[Completion]) -> Tensor:
    """Return the mean cross-entropy per token of each completion after its prompt, float32 `[n]`."""
    length = max(len(item.ids) for item in completions)
    ids = torch.zeros(len(completions), length, dtype=torch.long)
    labels = torch.full_like(ids, _IGNORED)
    for row, item in enumerate(completions):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        labels[row, item.prompt : len(item.ids)] = torch.tensor(item.ids[item.prompt :])
    # padding stands on the right, where causal attention never looks
    logits = model(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:].to(logits.device)
    each = functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=_IGNORED, reduction="none")
    return each.sum(1) / (targets != _IGNORED).sum(1)


@torch.no_grad()
def mean_log_probabilities(model: Any, completions: Sequence[Completion]) -> NDArray[np.float64]:
    """Return log P(a | q) / |a| of each completion (natural logarithm), float64 `[n]`."""
    order = sorted(range(len(completions)), key=lambda i: len(completions[i].ids))
    found = np.empty(len(completions))
    for chosen in batches(order):
        found[chosen] = -losses(model, [completions[i] for i in chosen]).cpu().double().numpy()
    return found


def batches(order: Sequence[int], size: int = _BATCH) -> Iterator[list[int]]:
    """Cut a sequence of indices into lists of at most `size`."""
    for start in range(0, len(order), size):
        yield list(order[start : start + size])


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, prompts: Sequence[str], *, tokens: int, size: int = 1) -> list[str]:
    """Return what the model says after each prompt: the likeliest token each time, at most `tokens` of them.

    `size` prompts are continued at once; shorter ones are filled up on the left, where nothing attends to it.
    """
    end = tokenizer.eos_token_id
    said: list[str] = []
    for chosen in batches(range(len(prompts)), size):
        encoded = [tokenizer(prompts[i])["input_ids"] for i in chosen]
        length = max(map(len, encoded))
        ids = torch.tensor([[end or 0] * (length - len(one)) + one for one in encoded], device=model.device)
        mask = torch.tensor([[0] * (length - len(one)) + [1] * len(one) for one in encoded], device=model.device)
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=end or 0,
            eos_token_id=end,
        )
        said += tokenizer.batch_decode(whole[:, length:].cpu(), skip_special_tokens=True)
    return said
