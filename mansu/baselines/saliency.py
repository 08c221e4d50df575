"""SURE: a saliency mask over neurons, and a large learning rate within it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mansu.baselines.ascent import GradDiff
from mansu.baselines.data import BaselineData
from mansu.baselines.losses import answer_log_probabilities
from mansu.baselines.method import Loss, Sweep, Trained
from mansu.baselines.preference import NPO
from mansu.baselines.weights import masked
from mansu.retain.fisher import gradients
from verify.behaviour.modules import nf4_linears

_CHUNK = 64


class SURE(Trained):
    """Saliency-based unlearning with a large learning rate (Zhang et al., ICLR 2025).

    A neuron is a row of a weight; it is salient where the norm of the forget loss's gradient in it, at the base, is at
    or above the `percentile` of all. Only salient rows are trained. In the authors' released code the mask is applied
    in a method of the trainer that nothing calls, so every weight moves; here rows outside it are no parameters.
    """

    name: ClassVar[str] = "sure"
    title: ClassVar[str] = "SURE"
    paper: ClassVar[str] = "2410.16454"
    sweep: ClassVar[Sweep] = Sweep("learning rate", 1e-4)

    percentile: float = Field(default=90.0, ge=0, lt=100)
    forget: Literal["ascent", "npo"] = "npo"
    beta: float = Field(default=0.1, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002
        """Train the salient rows."""
        with masked(model, self.mask(model, data)) as parameters:
            yield parameters

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:
        """Return GradDiff's loss or NPO's."""
        if self.forget == "ascent":
            return GradDiff(retain_weight=self.retain_weight).loss(model, data, seed)
        return NPO(beta=self.beta, retain_weight=self.retain_weight).loss(model, data, seed)

    def mask(self, model: Any, data: BaselineData) -> dict[str, Tensor]:
        """Return the saliency mask at the base, bool of the weight's shape by layer name, whole rows.

        At the base NPO's gradient is a multiple of ascent's, so the mask is that of either.
        """
        layers = nf4_linears(model)
        norms = {name: gradient.norm(dim=1) for name, gradient in _forget_gradient(model, layers, data).items()}
        threshold = _percentile(torch.cat(list(norms.values())), self.percentile)
        return {
            name: (norm >= threshold)[:, None].expand_as(layers[name].weight).contiguous()
            for name, norm in norms.items()
        }


def _forget_gradient(model: Any, layers: Mapping[str, Any], data: BaselineData) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    for start in range(0, len(data.forget), _CHUNK):
        chosen = range(start, min(start + _CHUNK, len(data.forget)))
        loss = answer_log_probabilities(model, data.forget, chosen).sum() / len(data.forget)
        for name, gradient in gradients(loss, layers).items():
            total[name] += gradient
    model.requires_grad_(False)
    return total


def _percentile(values: Tensor, percentile: float) -> Tensor:
    """Return the smallest value with at least that share of all values below it or equal."""
    ranked = values.sort().values
    return ranked[min(int(percentile / 100 * ranked.numel()), ranked.numel() - 1)]
