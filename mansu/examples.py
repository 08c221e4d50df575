"""Training examples as token batches, and the frozen base's predictions on them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mansu.request import Fact
from verify.behaviour.probes import AnswerTokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Left-padded prompts: `inputs` are int64 `[B, T]` (ids, attention mask, positions); `answers` int64 `[B]`."""

    inputs: dict[str, Tensor]
    answers: Tensor


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokenized prompts, the first token of each answer, and the token ids of each answer's pool."""

    ids: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    pools: tuple[tuple[int, ...], ...]
    padding: int

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.ids)

    def subset(self, indices: Sequence[int]) -> "Prompts":
        """Return the chosen prompts alone."""
        return Prompts(
            ids=tuple(self.ids[i] for i in indices),
            answers=tuple(self.answers[i] for i in indices),
            pools=tuple(self.pools[i] for i in indices),
            padding=self.padding,
        )

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the chosen prompts as one left-padded batch."""
        chosen = [self.ids[i] for i in indices]
        longest = max(map(len, chosen))
        ids = torch.full((len(chosen), longest), self.padding)
        attention = torch.zeros_like(ids)
        for row, tokens in enumerate(chosen):
            ids[row, longest - len(tokens) :] = torch.tensor(tokens)
            attention[row, longest - len(tokens) :] = 1
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": attention, "position_ids": positions}
        return Batch(inputs, torch.tensor([self.answers[i] for i in indices]))


@dataclass(frozen=True, slots=True)
class Texts:
    """Token texts cut or sampled to one length, int64 `[n, T]`."""

    ids: Tensor


def tokenize(tokenizer: Any, facts: Sequence[Fact], pools: Sequence[Sequence[str]]) -> Prompts:
    """Tokenize facts; `pools[i]` are the answers fact i is chosen among."""
    first = AnswerTokens(tokenizer)
    return Prompts(
        ids=tuple(tuple(tokenizer(fact.prompt)["input_ids"]) for fact in facts),
        answers=tuple(first(fact.answer) for fact in facts),
        pools=tuple(first.pool(pool) for pool in pools),
        padding=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )


@torch.no_grad()
def answer_accuracy(model: Any, prompts: Prompts, *, size: int = 64) -> float:
    """Return the share of prompts whose answer is the likeliest of its pool, by first token."""
    right = 0
    for start in range(0, len(prompts), size):
        chosen = range(start, min(start + size, len(prompts)))
        batch = prompts.batch(chosen)
        logits = model(**batch.inputs).logits[:, -1].float()
        for row, i in enumerate(chosen):
            pool = prompts.pools[i]
            right += pool[int(logits[row, list(pool)].argmax())] == prompts.answers[i]
    return right / len(prompts)


@torch.no_grad()
def last_log_probabilities(model: Any, prompts: Prompts, *, size: int = 64) -> Tensor:
    """Return the model's log-probabilities after each prompt, float16 `[n, vocabulary]`."""
    rows = []
    for start in range(0, len(prompts), size):
        batch = prompts.batch(range(start, min(start + size, len(prompts))))
        rows.append(model(**batch.inputs).logits[:, -1].float().log_softmax(-1).half())
    return torch.cat(rows)


@torch.no_grad()
def text_log_probabilities(model: Any, texts: Texts, *, size: int = 16) -> Tensor:
    """Return the model's log-probabilities at every position, float16 `[n, T, vocabulary]`."""
    rows = [
        model(input_ids=texts.ids[start : start + size]).logits.float().log_softmax(-1).half()
        for start in range(0, texts.ids.shape[0], size)
    ]
    return torch.cat(rows)


@torch.no_grad()
def sample_texts(model: Any, tokenizer: Any, *, count: int, length: int, seed: int) -> Texts:
    """Sample texts from the base itself, so that retention has text where the user has none (DESIGN section 4).

    Each starts from an ordinary English opening word, then nucleus sampling (p = 0.95) at temperature 1.
    """
    starts = [tokenizer(word)["input_ids"][0] for word in _OPENINGS]
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    ids = torch.tensor([starts[i % len(starts)] for i in range(count)])[:, None]
    sampled = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=length - 1,
        max_new_tokens=length - 1,
        do_sample=True,
        top_p=0.95,
        top_k=0,
        temperature=1.0,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )
    torch.random.set_rng_state(generator_state)
    return Texts(sampled[:, :length])


def cut_texts(tokenizer: Any, prose: Sequence[str], *, length: int) -> Texts | None:
    """Join prose into one stream of tokens and cut it into texts of `length`; None if it is too short for one."""
    stream = [token for text in prose for token in tokenizer(text + "\n")["input_ids"]]
    whole = len(stream) // length * length
    return Texts(torch.tensor(stream[:whole]).reshape(-1, length)) if whole else None


def draw(rng: random.Random, n: int, size: int) -> list[int]:
    """Draw `size` distinct indices below n (all of them, if there are fewer)."""
    return rng.sample(range(n), min(size, n))


_OPENINGS = (
    *("The", "In", "A", "When", "My", "This", "There", "For", "She", "He", "We", "It", "How", "What", "One"),
    *("According", "I", "They", "People", "Once"),
)
