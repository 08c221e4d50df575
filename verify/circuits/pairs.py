"""Contrast pairs, the metric, and batches that need no padding."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.errors import UsageError


@dataclass(frozen=True)
class Pair:
    """A clean prompt and its corrupt partner (token ids, equal lengths), the answer and what it is measured against.

    A prompt is measured at its last position; unless said otherwise, by the answer's logit minus the mean logit of the
    alternatives (`answer_minus_alternatives`). Only that metric needs alternatives.
    """

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    answer: int
    alternatives: tuple[int, ...]

    @property
    def first_difference(self) -> int:
        """The first position where the prompts differ; before it every activation of the two is the same."""
        return next(i for i, (a, b) in enumerate(zip(self.clean, self.corrupt, strict=True)) if a != b)


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs of one length. Positions before `prefix` are equal in the clean and corrupt prompts of every pair.

    `order`: positions of the pairs in the caller's list. `clean`, `corrupt`: int64 [B, T].
    `tokens` int64 and `weights` float32 [B, 1 + most alternatives]: what `measure` reads (see metrics.py).
    """

    order: tuple[int, ...]
    prefix: int
    clean: Tensor
    corrupt: Tensor
    tokens: Tensor
    weights: Tensor
    measure: Metric = answer_minus_alternatives

    def metric(self, logits: Tensor) -> Tensor:
        """Return the metric of each row, float32 [B · n], from the logits at its last position [B · n, vocabulary].

        The n rows of one pair follow one another.
        """
        n = logits.shape[0] // self.tokens.shape[0]
        found = self.measure(logits, self.tokens.repeat_interleave(n, 0), self.weights.repeat_interleave(n, 0))
        if found.shape != logits.shape[:1]:
            raise UsageError(
                "the metric does not give one number a prompt",
                expected=f"a tensor of shape {tuple(logits.shape[:1])}",
                found=f"shape {tuple(found.shape)}",
            )
        return found.float()


def check_pairs(pairs: Sequence[Pair], vocabulary: int, metric: Metric = answer_minus_alternatives) -> None:
    """Raise `UsageError` unless there are pairs and each can be used with this vocabulary and this metric."""
    if not pairs:
        raise UsageError("no contrast pairs", expected="at least one pair")
    for index, pair in enumerate(pairs):
        problem = _problem(pair, vocabulary, compares=metric is answer_minus_alternatives)
        if problem:
            raise UsageError(f"contrast pair {index} cannot be used: {problem}", found=repr(pair))


def _problem(pair: Pair, vocabulary: int, *, compares: bool) -> str:
    if len(pair.clean) != len(pair.corrupt):
        return f"its prompts have {len(pair.clean)} and {len(pair.corrupt)} tokens, but positions must correspond"
    if pair.clean == pair.corrupt:
        return "its prompts are the same, so there is nothing to attribute"
    if compares and not pair.alternatives:
        return "it has no alternatives to measure the answer against"
    if pair.answer in pair.alternatives:
        return "its answer is among its alternatives"
    ids = (*pair.clean, *pair.corrupt, pair.answer, *pair.alternatives)
    if min(ids) < 0 or max(ids) >= vocabulary:
        return f"a token id lies outside the vocabulary of {vocabulary}"
    return ""


def batches(
    pairs: Sequence[Pair], batch_size: int, device: torch.device, metric: Metric = answer_minus_alternatives
) -> Iterator[Batch]:
    """Yield every pair once, in batches of equal length, neighbours in their first difference together.

    Raises `UsageError` when `batch_size` is not positive.
    """
    if batch_size < 1:
        raise UsageError("the batch size must be positive", found=str(batch_size))
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        by_length[len(pair.clean)].append(index)
    for indices in by_length.values():
        indices.sort(key=lambda index: pairs[index].first_difference)
        for start in range(0, len(indices), batch_size):
            yield _batch(pairs, indices[start : start + batch_size], device, metric)


def _batch(pairs: Sequence[Pair], order: list[int], device: torch.device, metric: Metric) -> Batch:
    chosen = [pairs[index] for index in order]
    most = max(len(pair.alternatives) for pair in chosen)
    tokens = torch.zeros(len(chosen), 1 + most, dtype=torch.int64)
    weights = torch.zeros(len(chosen), 1 + most)
    for row, pair in enumerate(chosen):
        count = len(pair.alternatives)
        tokens[row, : 1 + count] = torch.tensor([pair.answer, *pair.alternatives])
        weights[row, 0] = 1.0
        weights[row, 1 : 1 + count] = -1.0 / max(count, 1)
    return Batch(
        order=tuple(order),
        prefix=min(pair.first_difference for pair in chosen),
        clean=torch.tensor([pair.clean for pair in chosen], device=device),
        corrupt=torch.tensor([pair.corrupt for pair in chosen], device=device),
        tokens=tokens.to(device),
        weights=weights.to(device),
        measure=metric,
    )
