"""The behavioural axes, measured on one model: choices answered right, and the likelihood of prose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from verify.behaviour.loading import Language
from verify.behaviour.probes import AnswerTokens, Choice, Probes, Text
from verify.circuits import last_only

Progress = Callable[[int], None]
"""Called with the number of items just finished."""

_CHOICE_BATCH = 64
_TEXT_BATCH = 16


def _silent(_: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class Answers:
    """How one model answers: `correct` bool `[choices]`, `mass` float32 `[choices]` (probability on the pool).

    `tied` bool `[choices]`: the right answer is among several likeliest ones, and so neither right nor wrong.
    `nll` float64 `[texts]` in nats and `tokens` int64 `[texts]` carry the prose.
    """

    correct: Tensor
    tied: Tensor
    mass: Tensor
    nll: Tensor
    tokens: Tensor


def measure(language: Language, probes: Probes, *, progress: Progress = _silent) -> Answers:
    """Measure one model on all choices and texts; deterministic, float32."""
    correct, tied, mass = choose(language, probes.choices, probes.pools, progress=progress)
    nll, tokens = likelihood(language, probes.texts, progress=progress)
    return Answers(correct, tied, mass, nll, tokens)


@dataclass(frozen=True, slots=True)
class Asked:
    """What probes are as tokens: prompts and texts as ids, the right answers' first tokens, each question's chance.

    `chance` is one over the number of first tokens that a question's pool leaves; `vocabulary` how many tokens the
    model has.
    """

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    chance: tuple[float, ...]
    texts: tuple[tuple[int, ...], ...]
    vocabulary: int


def asked(language: Language, probes: Probes) -> Asked:
    """Tokenize probes as `measure` does."""
    first = AnswerTokens(language.tokenizer)
    sizes = {name: len(first.pool(answers)) for name, answers in probes.pools.items()}
    return Asked(
        prompts=tuple(tuple(language.tokenizer(choice.prompt)["input_ids"]) for choice in probes.choices),
        answers=tuple(first(choice.answer) for choice in probes.choices),
        chance=tuple(1 / sizes[choice.pool] for choice in probes.choices),
        texts=tuple(tuple(language.tokenizer(text.text)["input_ids"]) for text in probes.texts),
        vocabulary=int(language.model.get_input_embeddings().weight.shape[0]),
    )


@torch.no_grad()
def choose(
    language: Language, choices: Sequence[Choice], pools: Mapping[str, Sequence[str]], *, progress: Progress = _silent
) -> tuple[Tensor, Tensor, Tensor]:
    """Answer each choice by the likeliest first token among its pool's.

    Returns bool `[n]` (the right answer is the only likeliest), bool `[n]` (it is one of several) and float32 `[n]`
    (the probability mass on the pool, which shows whether the model answers the question at all). Logits are compared:
    where a token outside the pool has nearly all of the probability, the pool's have none left to compare.
    """
    first = AnswerTokens(language.tokenizer)
    tokens = {name: torch.tensor(first.pool(answers)) for name, answers in pools.items()}
    prompts = [language.tokenizer(choice.prompt)["input_ids"] for choice in choices]
    correct, tied = torch.zeros(2, len(choices), dtype=torch.bool)
    mass = torch.zeros(len(choices))
    for batch in equal_lengths(prompts, _CHOICE_BATCH):
        ids = torch.tensor([prompts[i] for i in batch], device=language.device)
        logits = language.model(input_ids=ids, **last_only(ids.shape[1])).logits[:, -1].float().cpu()
        probability = logits.softmax(-1)
        for row, i in enumerate(batch):
            pool = tokens[choices[i].pool]
            likeliest = pool[logits[row, pool] == logits[row, pool].max()].tolist()
            correct[i] = likeliest == [first(choices[i].answer)]
            tied[i] = len(likeliest) > 1 and first(choices[i].answer) in likeliest
            mass[i] = probability[row, pool].sum()
        progress(len(batch))
    return correct, tied, mass


@torch.no_grad()
def likelihood(language: Language, texts: Sequence[Text], *, progress: Progress = _silent) -> tuple[Tensor, Tensor]:
    """Return each text's summed negative log-likelihood (nats, float64) and its number of predicted tokens (int64)."""
    ids = [language.tokenizer(text.text)["input_ids"] for text in texts]
    nll = torch.zeros(len(texts), dtype=torch.float64)
    for batch in equal_lengths(ids, _TEXT_BATCH):
        tokens = torch.tensor([ids[i] for i in batch], device=language.device)
        logits = language.model(input_ids=tokens).logits[:, :-1].float()
        loss = functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        nll[torch.tensor(batch)] = loss.cpu().double().sum(1)
        progress(len(batch))
    return nll, torch.tensor([len(x) - 1 for x in ids])


def equal_lengths(sequences: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Group indices of token sequences of one length into batches of at most `size`: no padding, no position tricks."""
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    return [
        group[start : start + size] for _, group in sorted(by_length.items()) for start in range(0, len(group), size)
    ]
