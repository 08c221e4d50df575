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
class Chosen:
    """How one model answers choices; all `[choices]`, bool but for `mass`.

    `correct`: the right answer is the only likeliest of its pool; `tied`: it is one of several likeliest. `mass`
    float32: the probability on the pool, which shows whether the model answers the question at all.

    `corrected` and `turned` read the answers without each one's prior, which is its mean logit over all questions of
    the row (contextual calibration, arXiv 2102.09690): the right answer is then the likeliest, or the least likely. So
    is told a model that gives one answer to every question and knows all the same, or that turns its knowledge over.
    """

    correct: Tensor
    tied: Tensor
    mass: Tensor
    corrected: Tensor
    turned: Tensor


@dataclass(frozen=True, slots=True)
class Answers(Chosen):
    """How one model answers choices and prose: `nll` float64 `[texts]` in nats, `tokens` int64 `[texts]`."""

    nll: Tensor
    tokens: Tensor


def measure(language: Language, probes: Probes, *, progress: Progress = _silent) -> Answers:
    """Measure one model on all choices and texts; deterministic, float32."""
    chosen = choose(language, probes.choices, probes.pools, progress=progress)
    nll, tokens = likelihood(language, probes.texts, progress=progress)
    return Answers(chosen.correct, chosen.tied, chosen.mass, chosen.corrected, chosen.turned, nll, tokens)


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
    language: Language,
    choices: Sequence[Choice],
    pools: Mapping[str, Sequence[str]],
    *,
    special_tokens: bool = True,
    progress: Progress = _silent,
) -> Chosen:
    """Answer each choice by the likeliest first token among its pool's.

    `special_tokens` says whether prompts get those that the tokenizer puts around a text. Logits are compared: where a
    token outside the pool has nearly all of the probability, the pool's have none left to compare.
    """
    first = AnswerTokens(language.tokenizer)
    tokens = {name: first.pool(answers) for name, answers in pools.items()}
    rows = [_Row(at, choices, tokens) for at in _by_row(choices)]
    place = {i: (row, n) for row in rows for n, i in enumerate(row.at)}
    prompts = [language.tokenizer(choice.prompt, add_special_tokens=special_tokens)["input_ids"] for choice in choices]
    mass = torch.zeros(len(choices))
    for batch in equal_lengths(prompts, _CHOICE_BATCH):
        ids = torch.tensor([prompts[i] for i in batch], device=language.device)
        logits = language.model(input_ids=ids, **last_only(ids.shape[1])).logits[:, -1].float().cpu()
        probability = logits.softmax(-1)
        for n, i in enumerate(batch):
            row, number = place[i]
            row.logits[number] = logits[n, row.tokens]
            mass[i] = probability[n, list(tokens[choices[i].pool])].sum()
        progress(len(batch))
    found = torch.zeros(4, len(choices), dtype=torch.bool)
    for row in rows:
        found[:, row.at] = row.judged(torch.tensor([first(choices[i].answer) for i in row.at]))
    correct, tied, corrected, turned = found
    return Chosen(correct, tied, mass, corrected, turned)


def _by_row(choices: Sequence[Choice]) -> list[list[int]]:
    """Return the places of each row's choices."""
    rows: dict[tuple[str, str], list[int]] = {}
    for i, choice in enumerate(choices):
        rows.setdefault((choice.axis, choice.row), []).append(i)
    return list(rows.values())


class _Row:
    """The choices of one row: their places, and their logits `[choices, tokens]` at all tokens of the row's pools."""

    def __init__(self, at: list[int], choices: Sequence[Choice], tokens: Mapping[str, tuple[int, ...]]) -> None:
        self.at = at
        pools = [tokens[choices[i].pool] for i in at]
        self.tokens = torch.tensor(sorted({token for pool in pools for token in pool}))
        self.logits = torch.zeros(len(at), len(self.tokens))
        known = {pool: torch.isin(self.tokens, torch.tensor(pool)) for pool in set(pools)}
        self._own = torch.stack([known[pool] for pool in pools])

    def judged(self, answers: Tensor) -> Tensor:
        """Return bool `[4, choices]`: correct, tied, corrected, turned; `answers` int64 are the right tokens."""
        right = self.tokens[None] == answers[:, None]
        prior = self.logits.mean(0, keepdim=True)
        least = self._lead(prior - self.logits, right)
        return torch.stack([*self._leads(self.logits, right), self._lead(self.logits - prior, right), least])

    def _lead(self, logits: Tensor, right: Tensor) -> Tensor:
        return self._leads(logits, right)[0]

    def _leads(self, logits: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Tell whether the right answer has the only highest logit of its pool, and whether one of several."""
        own = logits.masked_fill(~self._own, -torch.inf)
        highest = own == own.max(1, keepdim=True).values
        leads = (highest & right).any(1)
        alone = highest.sum(1) == 1
        return leads & alone, leads & ~alone


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
