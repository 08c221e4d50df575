"""The diagonal of the Fisher at the moved values alone, unbiased: ½ Σ FᵢᵢΔᵢ² of a set of sequences.

A random vector v = √p ∘ ξ − p ⟨√p, ξ⟩, ξ standard normal, has the covariance diag(p) − ppᵀ of the logits' Fisher, so
g = Jᵀv has E[gᵢ²] = Fᵢᵢ. Positions draw their own ξ, so the square of their summed gradients is, in the mean, the sum
of their Fishers: one backward pass serves a whole batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mansu.retain_bound.edit import Edits
from mansu.retain_bound.passes import Batch
from mansu.solve.sampled import gradients_at


def half_diagonals(
    model: Any, edits: Edits, batches: Sequence[Batch], draws: int, generator: torch.Generator
) -> Tensor:
    """Return ½ Σ FᵢᵢΔᵢ², averaged over positions, as each of `draws` independent draws has it, float64 `[draws]`."""
    positions = sum(batch.ids.shape[0] * batch.per_sequence for batch in batches)
    totals = [
        sum(half_cost(model, edits, partial(_noise, model, batch, generator)) for batch in batches)
        for _ in range(draws)
    ]
    return torch.tensor(totals, dtype=torch.float64) / positions


def half_cost(model: Any, edits: Edits, loss: Callable[[], Tensor]) -> float:
    """Return ½ Σ gᵢ²Δᵢ², g the gradient of a loss at the moved values."""
    layers: dict[str, nn.Linear] = {name: model.get_submodule(name) for name in edits}
    gradient = gradients_at(loss, layers, {name: edit.indices for name, edit in edits.items()})
    moves = torch.cat([edit.moves for edit in edits.values()])
    return float((gradient.double() * moves.double()).square().sum()) / 2


def _noise(model: Any, batch: Batch, generator: torch.Generator) -> Tensor:
    logits = model(**batch.arguments()).logits.float().flatten(0, 1)
    p = logits.detach().softmax(-1)
    noise = p.sqrt() * torch.randn(p.shape, generator=generator)
    direction = noise - p * noise.sum(-1, keepdim=True)
    loss: Tensor = (direction * logits).sum()
    return loss
