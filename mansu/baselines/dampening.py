"""SSD: weights that matter to the forget set far more than to the rest are made smaller. Nothing is trained."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from mansu.baselines.data import BaselineData, Batch, Budget
from mansu.baselines.losses import answer_log_probabilities, retain_cross_entropy
from mansu.baselines.method import Editor, Method, Sweep
from mansu.data.examples import draw
from mansu.retain.fisher import fisher
from verify.behaviour.modules import nf4_linears


class SSD(Method):
    """Selective synaptic dampening (Foster et al., AAAI 2024).

    θ ← min(λ I_D / I_F, 1) · θ wherever I_F > α I_D, with the diagonal Fisher I as the mean square of batch gradients,
    as in the authors' code. D is the training data in the paper; a language model's is not at hand, so the retain
    answers and texts stand for it. α is swept, downwards; λ is the paper's for classifiers.
    """

    name: ClassVar[str] = "ssd"
    title: ClassVar[str] = "SSD"
    paper: ClassVar[str] = "2308.07707"
    sweep: ClassVar[Sweep] = Sweep("alpha", 160.0, factor=0.5, count=6)

    dampening: float = Field(default=1.0, gt=0)
    """λ."""
    batch: int = Field(default=8, ge=1)
    """Prompts a gradient; with the budget's prompts, this says how many gradients are averaged."""

    def variants(self) -> tuple[Self, ...]:
        """Return λ as it is, and a tenth of it: the authors search both by model."""
        return tuple(self.model_copy(update={"dampening": self.dampening * share}) for share in (1.0, 0.1))

    def edit(self, model: Any, data: BaselineData, strength: float, budget: Budget, seed: int) -> None:
        """Dampen in place; `strength` is α."""
        self.editor(lambda: model, data, budget, seed)(model, strength)

    def editor(self, fresh: Callable[[], Any], data: BaselineData, budget: Budget, seed: int) -> Editor:
        """Measure the importances, which no α changes, and return what dampens by them."""
        forget, rest = _importances(fresh(), data, list(_draws(data, budget, self.batch, seed)))

        def dampen(model: Any, strength: float) -> None:
            for name, layer in nf4_linears(model).items():
                layer.weight.data = dampened(
                    layer.weight.data, forget[name], rest[name], alpha=strength, dampening=self.dampening
                )

        return dampen


def dampened(weight: Tensor, forget: Tensor, rest: Tensor, *, alpha: float, dampening: float) -> Tensor:
    """Return the dampened weight from the importances of the forget set and of the rest; all of one shape."""
    factor = torch.where(forget > alpha * rest, (dampening * rest / forget).clamp(max=1.0), 1.0)
    return weight * factor


def _importances(
    model: Any, data: BaselineData, draws: Sequence[Batch]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the diagonal Fisher of the forget set and of the rest, float32 by layer name."""
    layers = nf4_linears(model)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    forget = fisher(layers, [_forget_loss(model, data, batch) for batch in draws], progress=_quiet)
    rest = fisher(layers, [_retain_loss(model, data, batch) for batch in draws], progress=_quiet)
    model.requires_grad_(False)
    return forget.diagonal, rest.diagonal


def _draws(data: BaselineData, budget: Budget, size: int, seed: int) -> Iterator[Batch]:
    """Yield as many examples as training would see, in batches of `size` prompts."""
    rng = random.Random(seed)  # noqa: S311  (batches, not secrets)
    texts = max(1, size * budget.texts // budget.prompts)
    for _ in range(max(1, budget.steps * budget.prompts // size)):
        yield Batch(
            draw(rng, len(data.forget), size),
            draw(rng, len(data.retained.prompts), size),
            draw(rng, data.retained.texts.ids.shape[0], texts),
        )


def _forget_loss(model: Any, data: BaselineData, batch: Batch) -> Callable[[], Tensor]:
    return lambda: -answer_log_probabilities(model, data.forget, batch.forget).mean()


def _retain_loss(model: Any, data: BaselineData, batch: Batch) -> Callable[[], Tensor]:
    return lambda: retain_cross_entropy(model, data.retained, batch)


def _quiet(_: int) -> None:
    return None
