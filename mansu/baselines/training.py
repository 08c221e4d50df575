"""The one training loop of all baselines: Adam at a constant rate, no weight decay, no clipping."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm, parametrize

_Batch = TypeVar("_Batch")


def descend(
    parameters: Sequence[nn.Parameter], loss_of: Callable[[_Batch], Tensor], draws: Iterable[_Batch], rate: float
) -> None:
    """Take one step of Adam for each batch.

    Raises `FloatingPointError` as soon as a loss or a gradient is not finite: the model is broken from there on.
    """
    # no decay: it would move weights that the loss leaves alone
    optimizer = torch.optim.Adam(parameters, lr=rate, weight_decay=0.0)
    for batch in draws:
        # a weight that is computed from its parameters is computed once a step, not once a forward pass
        with parametrize.cached():
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (loss.isfinite() and norm.isfinite()):
            raise FloatingPointError("the loss or its gradient is not finite")
        optimizer.step()
