"""The gradient of the metric at the input of every reader, summed over integration points, by hooks.

Readers that are whole modules (MLPs, the read-out) get a view of their norm's input and a hook on it. For the heads,
whose q, k and v share a norm, the gradient at each one's outputs is pulled back through its rows and the norm in closed
form, so that one backward pass serves all of them.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verify.circuits.families import Norm, Rows, gain, offset
from verify.circuits.norms import Normed, normed
from verify.circuits.running import Prompts, Subject, run

_TOKENS = 1024
"""Most positions of one pass: as many as keep the matrix products busy, for each costs memory in every layer."""


@dataclass(frozen=True, eq=False)
class _Pass:
    """One forward and backward pass: the lifetime of its hooks, how many `points` it holds, who hears of gradients.

    The points of one pair are rows that follow one another; their gradients come with the points' weights in them.
    `arrived(layer)` is called when the gradients of one of the four kinds of readers of a layer were added; for the
    read-out, with the number of layers.
    """

    hooks: ExitStack
    points: int
    arrived: Callable[[int], None]

    def total(self, gradient: Tensor) -> Tensor:
        """Sum [B · points, ...] over the points: float32 [B, ...]."""
        return torch.unflatten(gradient.float(), 0, (-1, self.points)).sum(1)


def reader_gradients(subject: Subject, prompts: Prompts, schedule: Sequence[tuple[float, float]]) -> Tensor:
    """Average the readers' input gradients over the points, as many of them in one pass as `_TOKENS` allow.

    Returns float32 [readers, B·T, width].
    """
    graph = subject.family.graph
    readers = torch.zeros(graph.n_readers, prompts.positions, prompts.clean.shape[-1], device=prompts.clean.device)
    blocks = [readers[graph.layer_columns(layer)] for layer in range(graph.layers)]
    together = max(1, _TOKENS // prompts.positions)
    _integrate(subject, prompts, schedule, together, [*blocks, readers[-1:]], lambda _: None)
    return readers


def each_layer_gradients(
    subject: Subject,
    prompts: Prompts,
    schedule: Sequence[tuple[float, float]],
    take: Callable[[int, Tensor], None],
) -> None:
    """Hand out the same gradients layer by layer and point by point, and keep none.

    `take(layer, gradients)` gets the weighted gradients at the readers of a layer, float32 [readers, B·T, width] in the
    order of their columns, from the last layer to the first and before it, as the layer behind the last, the read-out.
    The tensor is used again after the call.
    """
    graph = subject.family.graph
    readers = graph.layer_columns(0).stop
    block = torch.zeros(readers, prompts.positions, prompts.clean.shape[-1], device=prompts.clean.device)
    pending = [4] * graph.layers + [1]

    def arrived(layer: int) -> None:
        pending[layer] -= 1
        if pending[layer] == 0:
            pending[layer] = 4 if layer < graph.layers else 1
            take(layer, block if layer < graph.layers else block[:1])
            block.zero_()

    _integrate(subject, prompts, schedule, 1, [block] * graph.layers + [block[:1]], arrived)


def _integrate(
    subject: Subject,
    prompts: Prompts,
    schedule: Sequence[tuple[float, float]],
    together: int,
    blocks: Sequence[Tensor],
    arrived: Callable[[int], None],
) -> None:
    """Add the gradients of every point to the `blocks`, one for each layer and one for the read-out."""
    size, device = len(prompts.clean), prompts.clean.device
    family, graph = subject.family, subject.family.graph
    start, step = prompts.corrupt.float(), prompts.clean.float() - prompts.corrupt.float()
    for first in range(0, len(schedule), together):
        alphas, weights = torch.tensor(schedule[first : first + together], device=device).T
        points = start[:, None] + alphas[:, None, None] * step[:, None]
        embeddings = points.flatten(0, 1).to(prompts.clean.dtype).requires_grad_()
        with ExitStack() as hooks:
            current = _Pass(hooks, len(alphas), arrived)
            for layer, site in enumerate(family.sites):
                _listen_to_heads(subject, layer, blocks[layer], current)
                _listen_to_input(subject.module(site.mlp_norm.name), layer, blocks[layer][-1], current)
            _listen_to_input(subject.module(family.final_norm.name), graph.layers, blocks[-1][0], current)
            metric = run(subject, prompts, embeddings).view(size, -1) @ weights
            # Only the hooks' side effects matter; asking for the embeddings' gradient makes the pass reach them all.
            torch.autograd.grad(metric.sum(), embeddings)


def _listen_to_input(module: nn.Module, layer: int, target: Tensor, current: _Pass) -> None:
    """Add the gradient at `module`'s own input to `target`, without what bypasses the module."""

    def add(gradient: Tensor) -> None:
        target.add_(current.total(gradient).view(target.shape))
        current.arrived(layer)

    def branch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # The residual stream keeps the original tensor; only this branch flows through the view.
        view = args[0].view_as(args[0])
        _on_gradient(view, add)
        return (view, *args[1:])

    current.hooks.enter_context(module.register_forward_pre_hook(branch))


def _on_gradient(tensor: Tensor, hook: Callable[[Tensor], None]) -> None:
    tensor.register_hook(hook)  # type: ignore[no-untyped-call]


def _listen_to_heads(subject: Subject, layer: int, block: Tensor, current: _Pass) -> None:
    """Add the gradient at the input of each head's q, k and v to its reader's row of the layer's `block`."""
    family, site = subject.family, subject.family.sites[layer]
    norm = site.attention_norm
    seen: list[Normed] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(normed(norm, args[0].detach()))

    def listen(rows: Rows, target: Tensor) -> None:
        heads = len(target)
        fixed = offset(subject.model, norm, rows, heads)

        def watch(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            plain = rows.outputs(output.detach(), heads).float()
            if fixed is not None:
                plain = plain - fixed

            def add(gradient: Tensor) -> None:
                own = rows.outputs(gradient, heads).float()
                _pull_back(target, own, plain, _scaled(subject, norm, rows, heads), seen[0], current)
                current.arrived(layer)

            _on_gradient(output, add)

        current.hooks.enter_context(subject.module(rows.module).register_forward_hook(watch))

    current.hooks.enter_context(subject.module(norm.name).register_forward_pre_hook(keep))
    for rows, columns in zip((site.query, site.key, site.value), family.graph.projection_columns(layer), strict=True):
        start = family.graph.layer_columns(layer).start
        listen(rows, block[columns.start - start : columns.stop - start])


def _scaled(subject: Subject, norm: Norm, rows: Rows, heads: int) -> Tensor:
    """Return weight times gain, float32 [heads, head_dim, width]: the projection of the norm's input over its scale.

    Where the norm takes the mean off its input, the product gives nothing for a constant: taking the mean off each row
    says so.
    """
    scaled = subject.weights(rows, heads).float() * gain(subject.model, norm)
    return scaled - scaled.mean(-1, keepdim=True) if norm.centred else scaled


def _pull_back(target: Tensor, gradient: Tensor, projected: Tensor, scaled: Tensor, at: Normed, current: _Pass) -> None:
    """Add to `target` [heads, B·T, width] each head's gradient, pulled back through its projection and the norm.

    `gradient`, `projected`: at the projection's output, [B · points, T, heads, head_dim], `projected` without what does
    not depend on the stream. `scaled`: see there. `at`: the norm's input.
    With x the norm's input (less its mean), r its inverse scale and y = r·V·x for V = `scaled`:
    Jᵀg = r·Vᵀg − (r²/width)·⟨g, y⟩·x.
    """
    heads, count, width = target.shape
    # linear in the gradient, so the points are summed before the one product with Vᵀ
    through = current.total(gradient * at.inverse[..., None]).reshape(count, heads, -1)
    target.baddbmm_(through.transpose(0, 1), scaled)
    along = (gradient * projected).sum(-1) * (at.inverse.square() / -width)

    def by_position(value: Tensor) -> Tensor:
        """[B · points, T, n] as [B·T, points, n]."""
        return torch.unflatten(value, 0, (-1, current.points)).transpose(1, 2).flatten(0, 1)

    target.transpose(0, 1).baddbmm_(by_position(along).transpose(1, 2), by_position(at.stream))
