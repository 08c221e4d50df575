"""Fine-tuning: every parameter, float32, Adam, on what follows the prompts."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mansu.bench.completions import Completion, batches, losses


def fine_tune(
    model: Any,
    data: Sequence[Completion],
    *,
    epochs: int,
    rate: float,
    seed: int,
    size: int = 16,
    progress: Callable[[float], None] | None = None,
) -> float:
    """Train the model in place; return the mean loss per completion of the last epoch.

    The model becomes float32. The order of the data depends on `seed` alone; `progress` is told each epoch's loss.
    """
    model.float().train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    rng = random.Random(seed)  # noqa: S311  (an order, not a secret)
    order = list(range(len(data)))
    loss = float("nan")
    for _ in range(epochs):
        rng.shuffle(order)
        total = 0.0
        for chosen in batches(order, size):
            each = losses(model, [data[i] for i in chosen])
            optimizer.zero_grad(set_to_none=True)
            each.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(each.detach().sum())
        loss = total / len(data)
        if progress is not None:
            progress(loss)
    model.eval().requires_grad_(False)
    return loss
