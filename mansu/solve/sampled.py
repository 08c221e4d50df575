"""Gradients at the masked positions alone: a sampled product where autograd would form whole matrices.

A linear layer's weight gradient is gᵀx over all positions, as dear as the layer itself; the mask wants less than a
hundredth of it. Each of its entries is one column of g times one column of x (SDDMM).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Project = Callable[[str, Tensor], Tensor]
"""What a layer's input [.., in] counts as in its weight's gradient, by the layer's name."""


def gradients_at(
    loss: Callable[[], Tensor],
    layers: Mapping[str, nn.Linear],
    indices: Mapping[str, Tensor],
    project: Project | None = None,
) -> Tensor:
    """Return the gradient of `loss()` at flat `indices` of each layer's weight, float32 [n], layer after layer.

    Indices and gradient lie on the CPU, wherever the model does.
    With `project` each layer's input x is replaced by its projection xP (P symmetric), in the gradient and nowhere
    else: the gradient at the same places of (dL/dW) P, for gᵀ(xP) = (gᵀx)P.
    """
    with _tapped(layers, indices, project) as taps:
        found = torch.autograd.grad(loss(), taps)
    return torch.cat(found).cpu()


@contextmanager
def _tapped(
    layers: Mapping[str, nn.Linear], indices: Mapping[str, Tensor], project: Project | None
) -> Iterator[Sequence[Tensor]]:
    """Give a leaf of zeros [n] per layer; the gradient that reaches it is the weight's at these indices."""
    taps, handles = [], []

    def tap(name: str, layer: nn.Linear) -> Tensor:
        device = layer.weight.device
        leaf = torch.zeros(indices[name].numel(), requires_grad=True, device=device)
        # a GPU multiplies whole matrices faster than it picks
        pattern = _pattern(indices[name], layer.weight.shape) if device.type == "cpu" else indices[name].to(device)

        def listen(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = args[0].detach()
            x = x if project is None else project(name, x)
            tapped: Tensor = _Tap.apply(output, leaf, x, pattern)  # type: ignore[no-untyped-call]
            return tapped

        handles.append(layer.register_forward_hook(listen))
        return leaf

    try:
        for name, layer in layers.items():
            taps.append(tap(name, layer))
        yield taps
    finally:
        for handle in handles:
            handle.remove()


class _Tap(torch.autograd.Function):
    """Passes a layer's output on; backwards it also sends the sampled product gᵀx to the leaf."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, leaf: Tensor, x: Tensor, pattern: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(x, pattern)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, pattern = ctx.saved_tensors
        (gradient,) = gradients
        g, x = (value.float().flatten(0, -2) for value in (gradient, x))
        if pattern.layout is torch.strided:
            return gradient, (g.T @ x).reshape(-1)[pattern], None, None
        return gradient, torch.sparse.sampled_addmm(pattern, g.T, x, beta=0).values(), None, None


def _pattern(indices: Tensor, shape: torch.Size) -> Tensor:
    """Return a sparse matrix [out, in] (CSR) of zeros at sorted flat indices."""
    rows, columns = indices // shape[1], indices % shape[1]
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64)
    starts[1:] = torch.bincount(rows, minlength=shape[0]).cumsum(0)
    with warnings.catch_warnings():  # torch calls all of its CSR support beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            starts, columns, torch.zeros(indices.numel()), tuple(shape), check_invariants=True
        )
