"""Training examples as token batches, and the frozen base's predictions on them."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from mansu.request import Fact
from verify.behaviour.probes import AnswerTokens

_PACK, _PACK_GPU = 256, 4096
"""Most tokens of one pack: enough to keep the matrix products busy, few enough that attention stays cheap.

On a GPU what costs is to start a product: one pack holds all prompts of a training step.
"""
_MULTIPLE = 32
"""Rows of few different lengths: oneDNN compiles and keeps a kernel for each shape of a product."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokenized prompts, the first token of each answer, and the token ids of each answer's pool."""

    ids: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    pools: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.ids)

    def subset(self, indices: Sequence[int]) -> "Prompts":
        """Return the chosen prompts alone."""
        return Prompts(
            ids=tuple(self.ids[i] for i in indices),
            answers=tuple(self.answers[i] for i in indices),
            pools=tuple(self.pools[i] for i in indices),
        )

    def packs(
        self, indices: Sequence[int], *, device: torch.device | None = None, multiple: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the chosen prompts, in order, several to a row without padding, as a model's arguments on its device.

        A position that does not follow the one before it begins a new prompt: transformers then keeps the attention of
        each to itself (where it is given no mask and no cache). `logits_to_keep` are the prompts' last tokens. Rows are
        filled up to a `multiple` of tokens by one more prompt, of zeros, whose logits nobody asks for.
        """
        pack: list[tuple[int, ...]] = []
        most = _PACK if device is None or device.type == "cpu" else _PACK_GPU
        for i in indices:
            if pack and sum(map(len, pack)) + len(self.ids[i]) > most:
                yield _packed(pack, multiple, device)
                pack = []
            pack.append(self.ids[i])
        if pack:
            yield _packed(pack, multiple, device)

    def answers_of(self, indices: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Return the first tokens of the chosen prompts' answers, int64 `[n]`, on a device."""
        return torch.tensor([self.answers[i] for i in indices], device=device)


def _packed(prompts: Sequence[tuple[int, ...]], multiple: int, device: torch.device | None) -> dict[str, Tensor]:
    ends = list(accumulate(map(len, prompts)))
    filled = [*prompts, (0,) * (-ends[-1] % multiple)]
    arguments = {
        "input_ids": [[token for prompt in filled for token in prompt]],
        "position_ids": [[position for prompt in filled for position in range(len(prompt))]],
        "logits_to_keep": [end - 1 for end in ends],
    }
    return {name: torch.tensor(values, device=device) for name, values in arguments.items()}


@dataclass(frozen=True, slots=True)
class Texts:
    """Token texts cut or sampled to one length, int64 `[n, T]`, on the device of the model that reads them."""

    ids: Tensor


@dataclass(frozen=True, slots=True)
class Retained:
    """Retain data with the frozen base's log-probabilities on it (float16)."""

    prompts: Prompts
    prompt_reference: Tensor
    texts: Texts
    text_reference: Tensor


def tokenize(tokenizer: Any, facts: Sequence[Fact], pools: Sequence[Sequence[str]]) -> Prompts:
    """Tokenize facts; `pools[i]` are the answers fact i is chosen among."""
    first = AnswerTokens(tokenizer)
    return Prompts(
        ids=tuple(tuple(tokenizer(fact.prompt)["input_ids"]) for fact in facts),
        answers=tuple(first(fact.answer) for fact in facts),
        pools=tuple(first.pool(pool) for pool in pools),
    )


def tokenize_facts(tokenizer: Any, facts: Sequence[Fact], pool_of: Mapping[Fact, Sequence[str]]) -> Prompts:
    """Tokenize facts, each with its own pool of a request or a set (`mansu.request.pools`)."""
    return tokenize(tokenizer, facts, [pool_of[fact] for fact in facts])


def last_logits(model: Any, prompts: Prompts, indices: Sequence[int]) -> Tensor:
    """Return the logits after each of the chosen prompts, float32 `[n, vocabulary]`, on the model's device."""
    packs = prompts.packs(indices, device=model.device, multiple=_MULTIPLE)
    return torch.cat([model(**pack, use_cache=False).logits[0].float() for pack in packs])


def answer_accuracy(model: Any, prompts: Prompts) -> float:
    """Return the share of prompts whose answer is the likeliest of its pool, by first token."""
    return int(answers_right(model, prompts).sum()) / len(prompts)


@torch.no_grad()
def answers_right(model: Any, prompts: Prompts) -> Tensor:
    """Return for each prompt whether its answer is the likeliest of its pool, by first token, bool `[n]`."""
    right = []
    for chosen in parts_of(len(prompts)):
        for logits, i in zip(last_logits(model, prompts, chosen).cpu(), chosen, strict=True):
            pool = prompts.pools[i]
            right.append(pool[int(logits[list(pool)].argmax())] == prompts.answers[i])
    return torch.tensor(right, dtype=torch.bool)


@torch.no_grad()
def last_log_probabilities(model: Any, prompts: Prompts) -> Tensor:
    """Return the model's log-probabilities after each prompt, float16 `[n, vocabulary]`."""
    return torch.cat([last_logits(model, prompts, chosen).log_softmax(-1).half() for chosen in parts_of(len(prompts))])


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
    """Sample texts from the base itself, so that retention has text where the user has none.

    Each starts from an ordinary English opening word, then nucleus sampling (p = 0.95) at temperature 1.
    """
    starts = [tokenizer(word)["input_ids"][0] for word in _OPENINGS]
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    ids = torch.tensor([[starts[i % len(starts)]] for i in range(count)], device=model.device)
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


def parts_of(n: int, size: int = 64) -> Iterator[range]:
    """Yield the indices below n, so many at a time as a model is asked at once."""
    for start in range(0, n, size):
        yield range(start, min(start + size, n))


def draw(rng: random.Random, n: int, size: int) -> list[int]:
    """Draw `size` distinct indices below n (all of them, if there are fewer)."""
    return rng.sample(range(n), min(size, n))


_OPENINGS = (
    *("The", "In", "A", "When", "My", "This", "There", "For", "She", "He", "We", "It", "How", "What", "One"),
    *("According", "I", "They", "People", "Once"),
)
