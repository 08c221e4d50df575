"""The loss shapes that the papers share, each over the first token of an answer, as the engine's own.

A loss is the mean over its examples, so that batches of other sizes weigh alike. `log_p` are log-probabilities of the
answers under the model, `[n]`; `reference` the same under the base.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mansu.baselines.data import BaselineData, Batch
from mansu.data.examples import Prompts, Retained, last_logits
from mansu.solve.objective import retain_divergences

RetainKind = Literal["cross_entropy", "divergence"]


def answer_log_probabilities(model: Any, prompts: Prompts, chosen: Sequence[int]) -> Tensor:
    """Return the log-probability of each chosen prompt's answer, float32 `[n]`."""
    log_p = last_logits(model, prompts, chosen).log_softmax(-1)
    return log_p.gather(1, prompts.answers_of(chosen, log_p.device)[:, None])[:, 0]


@torch.no_grad()
def reference_log_probabilities(model: Any, prompts: Prompts) -> Tensor:
    """Return the log-probability of every prompt's answer under the base, float32 `[n]`."""
    return answer_log_probabilities(model, prompts, range(len(prompts)))


def ascent(log_p: Tensor) -> Tensor:
    """Gradient ascent on the cross-entropy: descend the mean log-probability. Unbounded below."""
    return log_p.mean()


def negative_preference(log_p: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """NPO: −(2/β) E log σ(−β log(p/p₀)) (arXiv 2404.05868)."""
    return -2 / beta * functional.logsigmoid(-beta * (log_p - reference)).mean()


def simple_negative_preference(log_p: Tensor, *, beta: float, gamma: float) -> Tensor:
    """SimNPO: −(2/β) E log σ(−(β/|y|) log p − γ) (arXiv 2410.07163); |y| = 1 here."""
    return -2 / beta * functional.logsigmoid(-beta * log_p - gamma).mean()


def retain_cross_entropy(model: Any, retained: Retained, batch: Batch) -> Tensor:
    """Cross-entropy of the retain answers, plus that of the next token in the retain texts."""
    answers = -answer_log_probabilities(model, retained.prompts, batch.retain).mean()
    ids = retained.texts.ids[list(batch.texts)]
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    return answers + functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])


def retain_divergence(model: Any, retained: Retained, batch: Batch) -> Tensor:
    """KL(base ‖ model) in nats after the retain prompts, plus that at every position of the retain texts."""
    diverged = retain_divergences(model, retained, batch.retain, batch.texts)
    return diverged.prompts + diverged.texts


def retain_loss(kind: RetainKind, model: Any, retained: Retained, batch: Batch) -> Tensor:
    """Return the retain loss of that kind."""
    shape = retain_cross_entropy if kind == "cross_entropy" else retain_divergence
    return shape(model, retained, batch)


def against_retention(
    forget: Callable[[Tensor, Sequence[int]], Tensor], data: BaselineData, retain: RetainKind | None, weight: float
) -> Callable[[Any, Batch], Tensor]:
    """Return the loss forget(log p of the chosen answers, the chosen indices) + weight · the retain loss, if any."""

    def loss(model: Any, batch: Batch) -> Tensor:
        total = forget(answer_log_probabilities(model, data.forget, batch.forget), batch.forget)
        if retain is not None and weight:
            total = total + weight * retain_loss(retain, model, data.retained, batch)
        return total

    return loss


def preference_against_retention(
    model: Any, data: BaselineData, *, beta: float, retain: RetainKind, weight: float
) -> Callable[[Any, Batch], Tensor]:
    """Return NPO with a retain loss beside it; `model` is the base, whose answers are the reference."""
    reference = reference_log_probabilities(model, data.forget)
    return against_retention(
        lambda log_p, chosen: negative_preference(log_p, reference[list(chosen)], beta=beta), data, retain, weight
    )
