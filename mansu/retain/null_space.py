"""The null space of the retain activations, as in AlphaEdit (arXiv 2410.02355).

P projects onto the directions of a layer's input that the retain set hardly uses, so that an update ΔW P leaves the
layer's outputs on it alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mansu.data.examples import Prompts, Texts
from verify.circuits import last_only


@dataclass(frozen=True, slots=True)
class NullSpace:
    """An orthonormal basis V of the directions taken out, float32 `[in, r]`, by the name of the linear layer."""

    removed: Mapping[str, Tensor]

    @classmethod
    def whole(cls, layers: Mapping[str, nn.Linear]) -> "NullSpace":
        """Return the space that takes no direction out, so that `project` changes nothing: to compare with."""
        return cls(
            {name: torch.zeros(layer.in_features, 0, device=layer.weight.device) for name, layer in layers.items()}
        )

    def project(self, name: str, rows: Tensor) -> Tensor:
        """Return rows `[.., in]` times the projector P = 1 − VVᵀ onto the null space, which is never formed."""
        basis = self.removed[name]
        return rows.float() - (rows.float() @ basis) @ basis.T


@torch.no_grad()
def null_space(moments: Mapping[str, Tensor], *, energy: float, progress: Callable[[int], None]) -> NullSpace:
    """Keep the directions of each layer's retain inputs below the energy threshold.

    The largest eigendirections that together hold `energy` of E[xxᵀ] (`second_moments`) are removed. `progress` is
    called per layer.
    """
    removed = {}
    by_input: dict[int, Tensor] = {}
    for name, moment in moments.items():
        if id(moment) not in by_input:
            values, vectors = torch.linalg.eigh(moment)
            share = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
            by_input[id(moment)] = vectors[:, share > 1 - energy].contiguous()
        removed[name] = by_input[id(moment)]
        progress(1)
    return NullSpace(removed)


@torch.no_grad()
def second_moments(
    model: Any, layers: Mapping[str, nn.Linear], prompts: Prompts, texts: Sequence[Texts]
) -> dict[str, Tensor]:
    """Sum xxᵀ over each layer's retain inputs, float32 `[in, in]` by name: E[xxᵀ] up to a factor.

    Layers that read one tensor (q, k, v; gate, up) share one moment.
    """
    moments: dict[str, Tensor] = {}
    last: list[tuple[Tensor, Tensor]] = []  # the input seen last, and the moment it went into

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
            if last and last[0][0] is inputs[0]:
                moments[name] = last[0][1]
                return
            x = inputs[0].reshape(-1, module.in_features).float()
            if name not in moments:
                moments[name] = torch.zeros(module.in_features, module.in_features, device=x.device)
            moments[name].addmm_(x.T, x)
            last[:] = [(inputs[0], moments[name])]

        return hook

    handles = [layer.register_forward_pre_hook(listen(name)) for name, layer in layers.items()]
    try:
        for inputs in _passes(prompts, texts, model.device):
            model(**inputs, use_cache=False)
            last.clear()
    finally:
        for handle in handles:
            handle.remove()
    return moments


def _passes(
    prompts: Prompts, texts: Sequence[Texts], device: torch.device, size: int = 32
) -> Iterable[dict[str, Tensor]]:
    # no padding: it would add inputs that no text has
    yield from prompts.packs(range(len(prompts)), device=device)
    for text in texts:
        for start in range(0, text.ids.shape[0], size):
            ids = text.ids[start : start + size]
            yield {"input_ids": ids, **last_only(ids.shape[1])}
