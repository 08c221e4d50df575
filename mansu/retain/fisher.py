"""The diagonal Fisher of what is retained: ½ Σ F Δ² is the second-order estimate of the rise of its loss, in nats.

The solver keeps it under a budget, and the mask is chosen by it.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mansu.data.examples import Prompts, Texts, draw, last_logits

_PROMPTS, _TEXTS = 8, 2
"""Of one loss whose gradient is squared."""


@dataclass(frozen=True, slots=True)
class Fisher:
    """The diagonal empirical Fisher of the retain loss by layer name, float32 of the weight's shape."""

    diagonal: Mapping[str, Tensor]
    mean: float

    @classmethod
    def flat(cls, layers: Mapping[str, nn.Linear]) -> "Fisher":
        """Return what counts every parameter's risk as 1, whatever its layer and scale: to compare with."""
        return cls(
            {name: layer.weight.new_zeros(()).float().expand_as(layer.weight) for name, layer in layers.items()},
            1.0,
        )

    def at(self, indices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries at flat indices (int64 `[n]` by layer name): float32 `[n]` on the CPU, for the solver."""
        return {name: self.diagonal[name].reshape(-1)[places].cpu() for name, places in indices.items()}


def fisher(
    layers: Mapping[str, nn.Linear],
    losses: Iterable[Callable[[], Tensor]],
    *,
    progress: Callable[[int], None],
) -> Fisher:
    """Average the squared gradients of retain losses (each over a small batch) in each layer's weight."""
    diagonal = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()}
    count = 0
    for loss in losses:
        for name, gradient in gradients(loss(), layers).items():
            diagonal[name].addcmul_(gradient.float(), gradient.float())
        count += 1
        progress(1)
    total = 0.0
    for value in diagonal.values():
        total += float(value.div_(count).sum())
    return Fisher(diagonal, total / sum(value.numel() for value in diagonal.values()))


def fisher_losses(
    model: Any, prompts: Prompts, texts: Texts, rng: random.Random, count: int
) -> list[Callable[[], Tensor]]:
    """Return `count` losses on what is retained, each on its own fresh batch, for the estimate."""
    return [lambda: fisher_loss(model, prompts, texts, rng) for _ in range(count)]


def fisher_loss(model: Any, prompts: Prompts, texts: Texts, rng: random.Random) -> Tensor:
    """Cross-entropy of the retain answers and of the base's own texts: at the base, the KL terms have no gradient."""
    chosen = draw(rng, len(prompts), _PROMPTS)
    logits = last_logits(model, prompts, chosen)
    answers = functional.cross_entropy(logits, prompts.answers_of(chosen, logits.device))
    ids = texts.ids[draw(rng, texts.ids.shape[0], _TEXTS)]
    logits = model(input_ids=ids).logits[:, :-1].float()
    return answers + functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])


def gradients(loss: Tensor, layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """Return the gradient of a loss in each layer's weight (which must require gradients)."""
    found = torch.autograd.grad(loss, [layer.weight for layer in layers.values()])
    return dict(zip(layers, found, strict=True))
