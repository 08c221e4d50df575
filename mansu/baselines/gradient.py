"""GradDiff and NPO: dense updates of all linear weights, at a learning rate chosen on training data.

GradDiff (Liu et al., 2022, arXiv 2203.12817): ascend the forget loss, descend the retain loss. NPO (Zhang et al.,
2024, arXiv 2404.05868): −(2/β) log σ(−β log(p/p₀)) on the forget set, with the retain loss beside it.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mansu.examples import Prompts, answer_accuracy, draw, last_log_probabilities, last_logits
from mansu.progress import Advance
from verify.behaviour.modules import nf4_linears
from verify.nf4 import WIDTHS, quantize

METHODS = ("graddiff", "npo")
RATES = (1e-5, 2e-5, 4e-5, 8e-5)
STEPS = 20
_BETA = 0.1
_BATCH = 40
_RETENTION_LOSS = 0.02


@dataclass(frozen=True, slots=True)
class Baseline:
    """A dense edit: the edited weights by layer (stored dtype), how it was tuned, and its size against NF4's bins."""

    method: str
    learning_rate: float
    forget_train: float
    retain_train: float
    weights: dict[str, Tensor]
    bin_width_over_update: float


def run_baseline(
    method: str,
    fresh: Callable[[], Any],
    stored: torch.dtype,
    forget: Prompts,
    retain: Prompts,
    seed: int,
    *,
    progress: Advance,
) -> Baseline:
    """Sweep the learning rate; keep the one that forgets best without losing retention on its training data.

    `fresh()` returns a new float32 copy of the base. Where every rate loses retention, the one that loses least is
    kept.
    """
    base = fresh()
    kept_before = answer_accuracy(base, retain)
    reference = answer_log_probabilities(base, forget)
    before = {name: layer.weight.detach().to(stored) for name, layer in nf4_linears(base).items()}
    tried: list[Baseline] = []
    for rate in RATES:
        model = fresh()
        _train(method, model, forget, retain, reference, rate, seed)
        after = {name: layer.weight.detach().to(stored) for name, layer in nf4_linears(model).items()}
        tried.append(
            Baseline(
                method,
                rate,
                answer_accuracy(model, forget),
                answer_accuracy(model, retain),
                after,
                bin_width_over_update(before, after),
            )
        )
        progress(1)
    sound = [run for run in tried if run.retain_train >= kept_before - _RETENTION_LOSS]
    return min(sound, key=lambda run: run.forget_train) if sound else max(tried, key=lambda run: run.retain_train)


def bin_width_over_update(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Return the median over changed weights of the NF4 bin width over the size of the update."""
    ratios = []
    for name, weight in before.items():
        quantized = quantize(weight)
        moved = (after[name].float() - weight.float()).abs()
        width = WIDTHS[quantized.codes.int()] * quantized.scales()
        ratios.append((width / moved)[moved > 0][::7])
    every = torch.cat(ratios)
    return float(every.median()) if every.numel() else float("inf")


def _train(
    method: str, model: Any, forget: Prompts, retain: Prompts, reference: Tensor, rate: float, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311  (batches, not secrets)
    parameters = [layer.weight for layer in nf4_linears(model).values()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(STEPS):
        loss = baseline_loss(method, model, forget, retain, reference, rng)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.requires_grad_(False)


def baseline_loss(
    method: str, model: Any, forget: Prompts, retain: Prompts, reference: Tensor, rng: random.Random
) -> Tensor:
    """Return the loss of one step, on fresh batches: the forget term, plus cross-entropy of the retain answers.

    `reference` float32 `[n]`: the base's log-probabilities of the forget answers (`answer_log_probabilities`).
    """
    chosen = draw(rng, len(forget), _BATCH)
    loss = _forget_loss(method, model, forget, chosen, reference[chosen])
    kept = draw(rng, len(retain), _BATCH)
    return loss + functional.cross_entropy(last_logits(model, retain, kept), retain.answers_of(kept))


def answer_log_probabilities(model: Any, prompts: Prompts) -> Tensor:
    """Return the natural logarithms of the answers' probabilities, float32 `[n]`."""
    every = last_log_probabilities(model, prompts).float()
    return every.gather(1, torch.tensor(prompts.answers)[:, None])[:, 0]


def _forget_loss(method: str, model: Any, forget: Prompts, chosen: Sequence[int], reference: Tensor) -> Tensor:
    log_p = last_logits(model, forget, chosen).log_softmax(-1).gather(1, forget.answers_of(chosen)[:, None])[:, 0]
    if method == "npo":
        return -2 / _BETA * functional.logsigmoid(-_BETA * (log_p - reference)).mean()
    return log_p.mean()
