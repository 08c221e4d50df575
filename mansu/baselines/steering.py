"""RMU: the activations of one layer on the forget set are steered to a random direction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mansu.baselines.data import BaselineData, Batch
from mansu.baselines.method import Loss, Trained
from mansu.baselines.weights import masked
from mansu.data.examples import Prompts
from verify.behaviour.modules import nf4_linears
from verify.circuits import describe
from verify.errors import UsageError

_DEPTH = 7 / 32  # the paper's layer of a 32-layer model, counted from 0
_EDITED = 3  # that layer and the two before it
_CHUNK = 64


class RMU(Trained):
    """Representation misdirection for unlearning (Li et al., WMDP, 2024).

    The loss is the mean square of h − c·u over forget tokens, plus α times that of h − h₀ over retain tokens, where h
    are the outputs of layer l, h₀ the base's, and u is uniform on [0, 1) in each coordinate, normalized, fixed for a
    run. Trained are the down projections of layers l − 2 to l, as in the authors' code. The paper's c (6.5 for its 7B
    model) is in units of that model's activations; `steering` is in units of the mean norm of this model's, on the
    forget set, as Adaptive RMU (arXiv 2408.06223) scales it.
    """

    name: ClassVar[str] = "rmu"
    title: ClassVar[str] = "RMU"
    paper: ClassVar[str] = "2403.03218"

    layer: int | None = Field(default=None, ge=0)
    """l; by default as deep as the paper's layer 7 of 32."""
    steering: float = Field(default=5.0, gt=0)
    alpha: float = Field(default=1200.0, ge=0)

    def variants(self) -> tuple[Self, ...]:
        """Return α as it is, and weaker: the authors set it by model, and theirs holds short prompts like ours fast."""
        return tuple(self.model_copy(update={"alpha": self.alpha * share}) for share in (1.0, 0.03, 0.001))

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002
        """Train the down projections of layers l − 2 to l; raises `UsageError` ME284 where there are none."""
        layers = nf4_linears(model)
        sites = describe(model).sites
        steered = self.steered(model)
        names = [site.down for site in sites[max(0, steered - _EDITED + 1) : steered + 1]]
        chosen = {name: torch.ones_like(layers[name].weight, dtype=torch.bool) for name in names if name in layers}
        if not chosen:
            raise _misfit(f"layers up to {steered} have no down projection that NF4 quantizes")
        with masked(model, chosen) as parameters:
            yield parameters

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:
        """Return the loss; the direction u is drawn from `seed`."""
        base = deepcopy(model).requires_grad_(False)
        where = f"{describe(model).layers}.{self.steered(model)}"
        target = (
            self.steering
            * _mean_norm(base, where, data.forget)
            * direction(model.config.hidden_size, seed).to(model.device)
        )

        def loss(model: Any, batch: Batch) -> Tensor:
            steered = on_prompts(model, where, data.forget, batch.forget)
            moved = functional.mse_loss(steered, target.expand_as(steered))
            with torch.no_grad():
                before = _retained(base, where, data, batch)
            kept = zip(_retained(model, where, data, batch), before, strict=True)
            return moved + self.alpha * torch.stack([functional.mse_loss(now, then) for now, then in kept]).sum()

        return loss

    def steered(self, model: Any) -> int:
        """Return l; raises `UsageError` ME284 for a layer that the model does not have."""
        count = describe(model).graph.layers
        layer = round(_DEPTH * count) if self.layer is None else self.layer
        if layer >= count:
            raise _misfit(f"layer {layer} of {count}, counted from 0")
        return layer


def direction(width: int, seed: int) -> Tensor:
    """Return u, float32 `[width]` of norm 1."""
    u: Tensor = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(u, dim=0)


def on_prompts(model: Any, layer: str, prompts: Prompts, chosen: Sequence[int]) -> Tensor:
    """Return a layer's outputs at every token of the chosen prompts, `[tokens, width]`."""
    with _listening(model, layer) as heard:
        for pack in prompts.packs(chosen, device=model.device):
            model(**pack, use_cache=False)
    return torch.cat([output.flatten(0, 1) for output in heard])


def _retained(model: Any, layer: str, data: BaselineData, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return a layer's outputs at every token of a step's retain prompts, and of its texts."""
    with _listening(model, layer) as heard:
        model(input_ids=data.retained.texts.ids[list(batch.texts)], use_cache=False, logits_to_keep=1)
    return on_prompts(model, layer, data.retained.prompts, batch.retain), heard[0].flatten(0, 1)


@contextmanager
def _listening(model: Any, layer: str) -> Iterator[list[Tensor]]:
    heard: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _arguments, output: heard.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        yield heard
    finally:
        handle.remove()


@torch.no_grad()
def _mean_norm(model: Any, layer: str, prompts: Prompts) -> float:
    norms = [
        on_prompts(model, layer, prompts, range(start, min(start + _CHUNK, len(prompts)))).norm(dim=-1)
        for start in range(0, len(prompts), _CHUNK)
    ]
    return float(torch.cat(norms).mean())


def _misfit(found: str) -> UsageError:
    return UsageError(
        "RMU cannot steer this model",
        expected="a layer of the model with a down projection at or just before it (dense MLPs, no experts)",
        found=found,
        remedy="set `layer` to a layer of this model, or leave it out",
        error_id="ME284",
    )
