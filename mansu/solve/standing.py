"""Where answers stand among the others that their prompts are asked among, and how far they have moved together."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_FULL_PULL_BEYOND = 0.05  # of log-odds: from there on answers are pulled back as strongly however far they are


def leads(logits: Tensor, answers: Tensor, pools: Sequence[tuple[int, ...]]) -> Tensor:
    """Return how far each answer's logit is above the mean of its alternatives', `[B]`. `logits` `[B, vocabulary]`."""
    return torch.stack(
        [row[answer] - row[others].mean() for row, answer, others in _alternatives(logits, answers, pools)]
    )


def log_odds(logits: Tensor, answers: Tensor, pools: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the log-odds of each answer against all its alternatives, 0 where it has none, `[B]`.

    `logits` `[B, vocabulary]`.
    """
    return torch.stack(
        [
            row[answer] - (row[others].logsumexp(0) if others else row[answer])
            for row, answer, others in _alternatives(logits, answers, pools)
        ]
    )


def common_shift(shifts: Tensor, pools: Sequence[tuple[int, ...]]) -> Tensor:
    """Return how far the answers of a batch have moved on average, by the pool they are asked among (Huber), a scalar.

    `shifts` `[B]` are changes of log-odds. What moves answers of one pool either way cancels out, the better the more
    of them the batch holds; a little of the same to all of them does not: it turns those that stood in balance, and a
    divergence hardly counts it. Answers whose pool no other of the batch is asked among count as one group.
    """
    often = Counter(pools)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, pool in enumerate(pools):
        groups.setdefault(pool if often[pool] > 1 else (), []).append(i)
    means = torch.stack([shifts[group].mean() for group in groups.values()])
    shares = torch.tensor([len(group) / len(pools) for group in groups.values()], device=shifts.device)
    return (
        shares * functional.smooth_l1_loss(means, torch.zeros_like(means), reduction="none", beta=_FULL_PULL_BEYOND)
    ).sum()


def _alternatives(
    logits: Tensor, answers: Tensor, pools: Sequence[tuple[int, ...]]
) -> list[tuple[Tensor, int, list[int]]]:
    return [
        (row, answer, [token for token in pool if token != answer])
        for row, answer, pool in zip(logits, map(int, answers), pools, strict=True)
    ]
