"""Scores from what the writers' changes and the readers' gradients are: products, layer by layer.

At once: all gradients are kept, float32 [readers, B·T, width], and every writer is formed once.
Lean: the gradients of one layer are used as they arrive and forgotten, and for each the writers before it are formed
again, once a point: about an eighth of the memory, and more work the more layers there are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from verify.circuits.gradients import each_layer_gradients, reader_gradients
from verify.circuits.norms import PostNormStep
from verify.circuits.running import Changes, Prompts, Subject, head_outputs


class Products(NamedTuple):
    """Scores of one batch: `edges` [B, writers, readers]; sums over pairs of the others, where they were asked for.

    `neurons` [layers, d_ff], `channels` [layers, heads · head_dim]; float32.
    """

    edges: Tensor
    neurons: Tensor | None
    channels: Tensor | None


def products(
    subject: Subject,
    prompts: Prompts,
    changes: Changes,
    schedule: Sequence[tuple[float, float]],
    *,
    neurons: bool,
    channels: bool,
) -> Products:
    """Integrate the gradients and multiply, all at once."""
    graph = subject.family.graph
    readers = reader_gradients(subject, prompts, schedule)
    with torch.no_grad():
        sums = _Sums(subject, prompts, changes, neurons=neurons, channels=channels)
        by_reader = _by_reader(readers, sums.size)
        sums.edges[:, :1] = torch.bmm(sums.embedded, by_reader)
        for layer in range(graph.layers):
            first, rows = graph.mlp_column(layer), graph.head_rows(layer)
            sums.add_edges(layer, slice(first, None), by_reader[:, :, first:])
            sums.add_inner(
                layer,
                attention=torch.tensordot(graph.real[rows.start].to(readers), readers, 1),
                mlp=torch.tensordot(graph.real[rows.stop].to(readers), readers, 1),
            )
        return sums.found()


def lean_products(
    subject: Subject,
    prompts: Prompts,
    changes: Changes,
    schedule: Sequence[tuple[float, float]],
    *,
    neurons: bool,
    channels: bool,
) -> Products:
    """Do the same with the gradients of one layer at a time."""
    graph = subject.family.graph
    sums = _Sums(subject, prompts, changes, neurons=neurons, channels=channels)
    later = torch.zeros(prompts.positions, subject.family.width, device=prompts.clean.device)

    def take(layer: int, readers: Tensor) -> None:
        columns = slice(graph.n_readers - 1, graph.n_readers)
        if layer == graph.layers:
            later.zero_()  # another point
        else:
            columns = graph.layer_columns(layer)
            after = later if graph.parallel else later + readers[-1]
            sums.add_inner(layer, attention=after, mlp=later)
        by_reader = _by_reader(readers, sums.size)
        sums.edges[:, :1, columns] += torch.bmm(sums.embedded, by_reader)
        # the layer's own heads are among the writers that its MLP reads
        for before in range(min(layer + 1, graph.layers)):
            sums.add_edges(before, columns, by_reader)
        later.add_(readers.sum(0))

    each_layer_gradients(subject, prompts, schedule, take)
    return sums.found()


def _by_reader(readers: Tensor, size: int) -> Tensor:
    """[readers, B·T, width] as [B, T·width, readers]."""
    return readers.view(len(readers), size, -1).permute(1, 2, 0)


class _Sums:
    """The scores of one batch as they add up."""

    def __init__(self, subject: Subject, prompts: Prompts, changes: Changes, *, neurons: bool, channels: bool) -> None:
        family, device = subject.family, prompts.clean.device
        graph = family.graph
        self._subject, self._changes = subject, changes
        self.size = len(prompts.clean)
        self.embedded = (prompts.corrupt.float() - prompts.clean.float()).reshape(self.size, 1, -1)
        self.edges = torch.zeros(self.size, graph.n_writers, graph.n_readers, device=device)
        self.neurons = torch.zeros(graph.layers, family.d_ff, device=device) if neurons else None
        mixed = graph.heads * family.head_dim
        self.channels = torch.zeros(graph.layers, mixed, device=device) if channels else None

    def add_edges(self, layer: int, columns: slice, by_reader: Tensor) -> None:
        """Add what the heads and the MLP of a layer score with the readers in `columns`, [B, T·width, readers]."""
        changes, rows = self._changes, self._subject.family.graph.head_rows(layer)
        heads = head_outputs(self._subject, layer, changes.heads[layer], changes.attention_step(layer))
        self.edges[:, rows, columns] += torch.bmm(heads.view(len(heads), self.size, -1).transpose(0, 1), by_reader)
        mlp = changes.mlps[layer].reshape(self.size, 1, -1)
        self.edges[:, rows.stop : rows.stop + 1, columns] += torch.bmm(mlp, by_reader)

    def add_inner(self, layer: int, *, attention: Tensor, mlp: Tensor) -> None:
        """Add what neurons and channels score, from the gradients at what their layer writes, [B·T, width].

        What is written is read by the readers alone, so their gradients sum to the gradient at it.
        """
        site, changes = self._subject.family.sites[layer], self._changes
        if self.channels is not None:
            step = changes.attention_step(layer)
            self.channels[layer] += self._inner(changes.heads[layer], attention, site.output, step)
        if self.neurons is not None:
            assert site.down is not None
            self.neurons[layer] += self._inner(changes.neurons[layer], mlp, site.down, changes.mlp_step(layer))

    def _inner(self, changed: Tensor, gradient: Tensor, projection: str, step: PostNormStep | None) -> Tensor:
        written = gradient if step is None else step.backward(gradient)
        return (changed.flatten(0, 1) * (written @ self._subject.matrix(projection).float())).sum(0)

    def found(self) -> Products:
        """Return the sums, with nothing where no edge is."""
        real = self._subject.family.graph.real.to(self.edges.device)
        return Products(self.edges.mul_(real), self.neurons, self.channels)
