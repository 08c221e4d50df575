"""Which weights an edit may move, made so that it cannot move others; and how large an edit is.

Embeddings, norms and the output head are never trained. Where an edit is confined to a mask, only the masked values
are parameters: no optimizer state, decay or missing hook can reach the rest. (In other people's code masks were never
applied, and weight decay moved what they had masked out.)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from verify.behaviour.modules import nf4_linears
from verify.nf4 import WIDTHS, dequantize, quantize

_EVERY = 7  # of changed weights, for the median


@contextmanager
def dense(model: Any) -> Iterator[list[nn.Parameter]]:
    """Train every weight that NF4 quantizes."""
    parameters = [layer.weight for layer in nf4_linears(model).values()]
    with _trainable(model, parameters):
        yield parameters


@contextmanager
def masked(model: Any, mask: Mapping[str, Tensor]) -> Iterator[list[nn.Parameter]]:
    """Train the weights that a mask names, bool of the weight's shape by layer name, and no others.

    A layer that is masked whole is trained as it is; of the others only the masked values are parameters.
    """
    layers = nf4_linears(model)
    chosen = {name: region for name, region in mask.items() if region.any()}
    partly = {name: region for name, region in chosen.items() if not region.all()}
    for name, region in partly.items():
        parametrize.register_parametrization(layers[name], "weight", _Entries(layers[name].weight, region))
    parameters = [_parameter(layers[name]) for name in chosen]
    with _trainable(model, parameters):
        yield parameters
    for name in partly:
        parametrize.remove_parametrizations(layers[name], "weight", leave_parametrized=True)
    model.requires_grad_(False)


@contextmanager
def straight_through(model: Any, stored: torch.dtype) -> Iterator[list[nn.Parameter]]:
    """Train every weight that NF4 quantizes, while the model computes with what NF4 makes of it.

    The forward value is `verify.nf4`'s, of the weight as it would be stored; the gradient passes as if it were the
    weight. The trained weights, not their NF4 values, are left in the model.
    """
    layers = nf4_linears(model)
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", _StraightThrough(stored))
    parameters = [_parameter(layer) for layer in layers.values()]
    with _trainable(model, parameters):
        yield parameters
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    model.requires_grad_(False)


def edited_weights(model: Any, stored: torch.dtype) -> dict[str, Tensor]:
    """Return the weights that NF4 quantizes, by layer name, in the stored dtype, on the CPU."""
    return {name: layer.weight.detach().to("cpu", stored, copy=True) for name, layer in nf4_linears(model).items()}


@torch.no_grad()
def put(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Copy weights (layer name → stored dtype) into a model: what is measured is what will be written."""
    layers = nf4_linears(model)
    for name, weight in weights.items():
        layers[name].weight.copy_(weight)


def bin_width_over_update(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Return the median over changed weights of the NF4 bin width over the size of the update; inf if none changed."""
    ratios = []
    for name, weight in before.items():
        quantized = quantize(weight)
        moved = (after[name].float() - weight.float()).abs()
        width = WIDTHS[quantized.codes.int()] * quantized.scales()
        ratios.append((width / moved)[moved > 0][::_EVERY])
    every = torch.cat(ratios)
    return float(every.median()) if every.numel() else float("inf")


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> int:
    """Return how many weights differ."""
    return sum(int((before[name] != after[name]).sum()) for name in before)


class _Entries(nn.Module):
    """A weight of which only the entries of a mask are parameters, float32 `[n]`."""

    def __init__(self, weight: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.shape = weight.shape
        self.register_buffer("base", weight.detach().reshape(-1).clone())
        self.register_buffer("indices", mask.reshape(-1).nonzero().reshape(-1).to(weight.device))

    def forward(self, entries: Tensor) -> Tensor:
        base, indices = cast(Tensor, self.base), cast(Tensor, self.indices)
        return base.index_copy(0, indices, entries).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.reshape(-1)[cast(Tensor, self.indices)]


class _StraightThrough(nn.Module):
    def __init__(self, stored: torch.dtype) -> None:
        super().__init__()
        self.stored = stored

    def forward(self, weight: Tensor) -> Tensor:
        return cast(Tensor, _RoundToNf4.apply(weight, self.stored))  # type: ignore[no-untyped-call]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class _RoundToNf4(torch.autograd.Function):
    """NF4's values forward, exactly; the identity backward."""

    @staticmethod
    def forward(_: Any, weight: Tensor, stored: torch.dtype) -> Tensor:
        return dequantize(quantize(weight.to(stored)), stored).to(weight.dtype)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _parameter(layer: Any) -> nn.Parameter:
    weight = layer.parametrizations.weight.original if parametrize.is_parametrized(layer, "weight") else layer.weight
    return cast(nn.Parameter, weight)


@contextmanager
def _trainable(model: Any, parameters: list[nn.Parameter]) -> Iterator[None]:
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    yield
    model.requires_grad_(False)
