"""The gradient of the metric at the input of every reader, summed over integration points, by hooks.

Readers that are whole modules (MLPs, the read-out) get a view of their norm's input and a hook on it. For the heads,
whose q, k and v share a norm, the gradient at each one's outputs is pulled back through its rows and the norm in closed
form, so that one backward pass serves all of them. With x the norm's input (less its mean, where the norm takes it), r
its inverse scale, V the rows times the gain, y = r·V·x and g the gradient at y:

    Jᵀg = Vᵀ(r·g) − (r²/width)·⟨g, y⟩·x

The first term is as wide as a head until Vᵀ is applied, which can wait until all points are summed; the second is one
number a reader and position, along a vector that all readers of a layer share. So they are handed out in two parts.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from verify.circuits.families import Rows, gain, offset
from verify.circuits.norms import Normed, normed
from verify.circuits.running import Prompts, Subject, run


class Heads(Protocol):
    """Who receives the gradients at the heads' readers, pass by pass; a pass holds P points of the B pairs."""

    def forwarded(self, streams: Sequence[Normed]) -> None:
        """Look at the inputs of the layers' attention norms, [B · P, T, width], between forward and backward pass.

        The points of one pair are rows that follow one another.
        """

    def add(self, layer: int, columns: slice, through: Tensor, along: Tensor) -> None:
        """Take in the readers in `columns`, those of q, k or v of a layer; float32, the points' weights in them.

        `through` [B, T, heads, head_dim]: Σ over points of r·g, still to be multiplied by Vᵀ (`scaled_rows`).
        `along` [B, P, T, heads]: how much of each point's stream belongs to the gradient.
        """


@dataclass(frozen=True, eq=False)
class _Pass:
    """One forward and backward pass: the lifetime of its hooks, and how many `points` it holds."""

    hooks: ExitStack
    points: int

    def total(self, gradient: Tensor) -> Tensor:
        """Sum [B · points, ...] over the points: float32 [B, ...]."""
        return torch.unflatten(gradient.float(), 0, (-1, self.points)).sum(1)


def integrate(
    subject: Subject,
    prompts: Prompts,
    schedule: Sequence[tuple[float, float]],
    together: int,
    heads: Heads,
    *,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
) -> None:
    """Take the gradients at every point of the schedule, `together` points a pass, and average them over the points.

    `inputs`, `outputs`: tensors, float32 [B, T, width] by the name of a module, to which the gradient at that module's
    own input (without what bypasses it) or at its output is added. `heads` hears of everything else.
    """
    size, device = len(prompts.clean), prompts.clean.device
    start, step = prompts.corrupt.float(), prompts.clean.float() - prompts.corrupt.float()
    for first in range(0, len(schedule), together):
        alphas, weights = torch.tensor(schedule[first : first + together], device=device).T
        points = start[:, None] + alphas[:, None, None] * step[:, None]
        embeddings = points.flatten(0, 1).to(prompts.clean.dtype).requires_grad_()
        with ExitStack() as hooks:
            current = _Pass(hooks, len(alphas))
            streams: dict[int, Normed] = {}
            for layer in range(subject.family.graph.layers):
                _listen_to_heads(subject, layer, streams, heads, current)
            for name, target in inputs.items():
                _listen_to_input(subject.module(name), target, current)
            for name, target in outputs.items():
                _listen_to_output(subject.module(name), target, current)
            metric = run(subject, prompts, embeddings).view(size, -1) @ weights
            with torch.no_grad():
                heads.forwarded([streams[layer] for layer in range(len(streams))])
            # Only the hooks' side effects matter; asking for the embeddings' gradient makes the pass reach them all.
            torch.autograd.grad(metric.sum(), embeddings)


def reader_gradients(subject: Subject, prompts: Prompts, schedule: Sequence[tuple[float, float]]) -> Tensor:
    """Return the readers' input gradients averaged over the points, float32 [readers, B·T, width], all in one pass."""
    graph, family = subject.family.graph, subject.family
    shape = (graph.n_readers, *prompts.clean.shape)
    readers = torch.zeros(shape, device=prompts.clean.device)
    norms = {site.mlp_norm.name: readers[graph.mlp_column(layer)] for layer, site in enumerate(family.sites)}
    inputs = norms | {family.final_norm.name: readers[-1]}
    integrate(subject, prompts, schedule, len(schedule), _Whole(subject, readers), inputs=inputs, outputs={})
    return readers.flatten(1, 2)


class _Whole:
    """Puts the two parts of the heads' gradients together, [readers, B, T, width]."""

    def __init__(self, subject: Subject, readers: Tensor) -> None:
        self._subject, self._readers = subject, readers
        self._streams: Sequence[Normed] = ()

    def forwarded(self, streams: Sequence[Normed]) -> None:
        self._streams = streams

    def add(self, layer: int, columns: slice, through: Tensor, along: Tensor) -> None:
        port = self._subject.family.graph.projection_columns(layer).index(columns)
        target = self._readers[columns]
        rows = scaled_rows(self._subject, layer)[port]
        target += torch.bmm(through.flatten(0, 1).transpose(0, 1), rows).view_as(target)
        stream = torch.unflatten(self._streams[layer].stream, 0, (-1, along.shape[1]))
        target += torch.einsum("bpth,bptw->hbtw", along, stream)


def scaled_rows(subject: Subject, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return V of the q, k and v readers of a layer: weight times gain, float32 [heads, head_dim, width] each.

    Where the norm takes the mean off its input, the product gives nothing for a constant: taking the mean off each row
    says so.
    """
    family = subject.family
    site = family.sites[layer]
    gains = gain(subject.model, site.attention_norm)

    def scaled(rows: Rows, heads: int) -> Tensor:
        product = subject.weights(rows, heads).float() * gains
        return product - product.mean(-1, keepdim=True) if site.attention_norm.centred else product

    kv = family.graph.kv_heads
    return scaled(site.query, family.graph.heads), scaled(site.key, kv), scaled(site.value, kv)


def _listen_to_input(module: nn.Module, target: Tensor, current: _Pass) -> None:
    """Add the gradient at `module`'s own input to `target`, without what bypasses the module."""

    def branch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # The residual stream keeps the original tensor; only this branch flows through the view.
        view = args[0].view_as(args[0])
        _add_gradient(view, target, current)
        return (view, *args[1:])

    current.hooks.enter_context(module.register_forward_pre_hook(branch))


def _listen_to_output(module: nn.Module, target: Tensor, current: _Pass) -> None:
    def listen(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        _add_gradient(output, target, current)

    current.hooks.enter_context(module.register_forward_hook(listen))


def _add_gradient(tensor: Tensor, target: Tensor, current: _Pass) -> None:
    def add(gradient: Tensor) -> None:
        target.add_(current.total(gradient))

    tensor.register_hook(add)  # type: ignore[no-untyped-call]


def _listen_to_heads(subject: Subject, layer: int, streams: dict[int, Normed], heads: Heads, current: _Pass) -> None:
    """Hand out the gradient at the input of each head's q, k and v, in its two parts; keep the norm's input."""
    family, site = subject.family, subject.family.sites[layer]
    norm = site.attention_norm

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        streams[layer] = normed(norm, args[0].detach())

    def listen(rows: Rows, columns: slice) -> None:
        units = columns.stop - columns.start

        def watch(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            held = rows.outputs(output.detach(), units)

            def add(gradient: Tensor) -> None:
                own, at = rows.outputs(gradient, units).float(), streams[layer]
                shift = _inner(own, held.float(), offset(subject.model, norm, rows, units))
                along = shift * (at.inverse.square() / -family.width)
                through = current.total(own * at.inverse[..., None])
                heads.add(layer, columns, through, torch.unflatten(along, 0, (-1, current.points)))

            output.register_hook(add)  # type: ignore[no-untyped-call]

        current.hooks.enter_context(subject.module(rows.module).register_forward_hook(watch))

    current.hooks.enter_context(subject.module(norm.name).register_forward_pre_hook(keep))
    for rows, columns in zip((site.query, site.key, site.value), family.graph.projection_columns(layer), strict=True):
        listen(rows, columns)


def _inner(gradient: Tensor, output: Tensor, fixed: Tensor | None) -> Tensor:
    """Return ⟨g, y⟩ head by head, [..., heads]; y is the output without what does not depend on the stream."""
    return (gradient * (output if fixed is None else output - fixed)).sum(-1)
