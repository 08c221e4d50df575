"""The gradient that says where the forget set is kept."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mansu.data.examples import Prompts, last_logits
from mansu.progress import Steps
from mansu.retain.fisher import gradients

_BATCH = 84


def forget_gradient(
    model: Any, layers: Mapping[str, nn.Linear], forget: Prompts, steps: Steps
) -> dict[str, torch.Tensor]:
    """Sum the gradient of the forget set's cross-entropy over all of it, float32 by layer name."""
    total = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()}
    starts = range(0, len(forget), _BATCH)
    with steps.step("Forget gradient within the circuit", len(starts)) as advance:
        for start in starts:
            chosen = range(start, min(start + _BATCH, len(forget)))
            logits = last_logits(model, forget, chosen)
            loss = functional.cross_entropy(logits, forget.answers_of(chosen, logits.device))
            for name, gradient in gradients(loss, layers).items():
                total[name] += gradient.float()
            advance(1)
    return total
