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
    """One forward and backward pass: the lifetime of its hooks, the sums they add to, and how many `points` it holds.

    `readers` [readers, B·T, width]: the sums over integration points. The points of one pair are rows that follow one
    another; their gradients come with the points' weights in them.
    """

    hooks: ExitStack
    readers: Tensor
    points: int

    def total(self, gradient: Tensor) -> Tensor:
        """Sum [B · points, ...] over the points: float32 [B, ...]."""
        return torch.unflatten(gradient.float(), 0, (-1, self.points)).sum(1)


def reader_gradients(subject: Subject, prompts: Prompts, schedule: Sequence[tuple[float, float]]) -> Tensor:
    """Average the readers' input gradients over the points, as many of them in one pass as `_TOKENS` allow.

    Returns float32 [readers, B·T, width].
    """
    size, _, width = prompts.clean.shape
    family, device = subject.family, prompts.clean.device
    graph = family.graph
    readers = torch.zeros(graph.n_readers, prompts.positions, width, device=device)
    start, step = prompts.corrupt.float(), prompts.clean.float() - prompts.corrupt.float()
    together = max(1, _TOKENS // prompts.positions)
    for first in range(0, len(schedule), together):
        alphas, weights = torch.tensor(schedule[first : first + together], device=device).T
        points = start[:, None] + alphas[:, None, None] * step[:, None]
        embeddings = points.flatten(0, 1).to(prompts.clean.dtype).requires_grad_()
        with ExitStack() as hooks:
            current = _Pass(hooks, readers, len(alphas))
            for layer, site in enumerate(family.sites):
                _listen_to_heads(subject, layer, current)
                _listen_to_input(subject.module(site.mlp_norm.name), readers[graph.mlp_column(layer)], current)
            _listen_to_input(subject.module(family.final_norm.name), readers[-1], current)
            metric = run(subject, prompts, embeddings).view(size, -1) @ weights
            # Only the hooks' side effects matter; asking for the embeddings' gradient makes the pass reach them all.
            torch.autograd.grad(metric.sum(), embeddings)
    return readers


def _listen_to_input(module: nn.Module, target: Tensor, current: _Pass) -> None:
    """Add the gradient at `module`'s own input to `target`, without what bypasses the module."""

    def add(gradient: Tensor) -> None:
        target.add_(current.total(gradient).view(target.shape))

    def branch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # The residual stream keeps the original tensor; only this branch flows through the view.
        view = args[0].view_as(args[0])
        _on_gradient(view, add)
        return (view, *args[1:])

    current.hooks.enter_context(module.register_forward_pre_hook(branch))


def _on_gradient(tensor: Tensor, hook: Callable[[Tensor], None]) -> None:
    tensor.register_hook(hook)  # type: ignore[no-untyped-call]


def _listen_to_heads(subject: Subject, layer: int, current: _Pass) -> None:
    """Add the gradient at the input of each head's q, k and v to its reader's row of the sums."""
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

            _on_gradient(output, add)

        current.hooks.enter_context(subject.module(rows.module).register_forward_hook(watch))

    current.hooks.enter_context(subject.module(norm.name).register_forward_pre_hook(keep))
    for rows, columns in zip((site.query, site.key, site.value), family.graph.projection_columns(layer), strict=True):
        listen(rows, current.readers[columns])


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
