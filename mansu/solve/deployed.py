"""The model as NF4 deploys it, while an edit of it is solved for: what is retained has to stay there too.

No absmax moves while an edit is solved (the mask holds no holder of one), so that NF4 gives every weight outside the
mask what it gives it in the base: only the masked ones have to follow. Under the floor `unfrozen` scales are taken to
hold, as in `mansu.floor.lattice`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mansu.data.examples import Retained
from mansu.data.prepare import predicted
from mansu.mask.selection import Mask
from mansu.solve.masked import Masked
from verify.behaviour.modules import nf4_linears
from verify.nf4 import dequantize, quantize


@dataclass(frozen=True, slots=True)
class Deployed:
    """The linear `layers` and the `weights` that NF4 (blocks of 64) gives them, `[out, in]`, by name.

    `base` are the base's weights after NF4 at the masked places, `[n]` by layer; `retained` what it then predicts.
    """

    layers: Mapping[str, nn.Linear]
    weights: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    retained: Retained

    def follow(self, masked: Masked) -> None:
        """Move what the edit has moved to where that stands; the rest of the mask is as the base is after NF4.

        A moved parameter stands where the edit has it, though NF4 may put it elsewhere: where it is free, until it is
        snapped (under floors that do not snap, always); where it is on a level of other blocks than those of 64, less
        than half a bin away.
        """
        for name, part in masked.slices.items():
            base, flat = self.base[name], self.weights[name].view(-1)
            moved = torch.where(masked.moved[part].to(flat.device), masked.master[part].to(flat), base)
            flat[masked.indices[name]] = moved

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the model have the weights after NF4 while the context is open."""
        with weights_in(self.layers, self.weights):
            yield


@torch.no_grad()
def deployed(model: Any, mask: Mask, retained: Retained) -> Deployed:
    """Quantize the base `model`, and record what it then predicts on what is retained."""
    layers = nf4_linears(model)
    weights = after_nf4(layers)
    base = {name: weights[name].view(-1)[index] for name, index in mask.indices.items()}
    with weights_in(layers, weights):
        return Deployed(layers, weights, base, predicted(model, retained.prompts, retained.texts))


def after_nf4(layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """Return what NF4 (blocks of 64) makes of these layers' weights, in their dtype, by name."""
    return {name: dequantize(quantize(layer.weight.data), layer.weight.dtype) for name, layer in layers.items()}


@contextmanager
def weights_in(layers: Mapping[str, nn.Linear], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the layers have these weights while the context is open; their own are put back as they were."""
    own = {name: layer.weight for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            # not its data: a parameter on another device may keep what it had
            layer.weight = nn.Parameter(weights[name], requires_grad=False)
        yield
    finally:
        for name, layer in layers.items():
            layer.weight = own[name]
