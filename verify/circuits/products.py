"""Scores of all edges from what the writers' changes and the readers' gradients are.

The score of writer w and reader v is Σ over positions of ⟨w, Jᵀg⟩, and by the two parts of the gradient at a head's
reader (gradients.py) that is ⟨w, Vᵀ·Σ r·g⟩ less Σ over points of (r²/width)·⟨g, y⟩·⟨w, x⟩. So of the first part only
[readers, positions, head_dim] is kept, not [readers, positions, width]; and of the second nothing: every pass takes
⟨w, x⟩ of all writers and all layers' streams after its forward pass, while autograd holds those streams anyway.
What is as wide as the model is formed at the end, once, for some layers and positions at a time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from verify.circuits.gradients import integrate, scaled_rows
from verify.circuits.norms import Normed, PostNormStep
from verify.circuits.running import Changes, Prompts, Subject, head_outputs

_WITHIN, _AFTER = 64, 128
"""Most positions of which whole writers are formed: between a forward and its backward pass, and after all of them."""
_LAYERS = 4
"""How many layers' readers are formed at a time; for each such block the writers before it are formed again."""


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
    together: int,
    *,
    neurons: bool,
    channels: bool,
) -> Products:
    """Integrate the gradients, `together` points a pass, and multiply."""
    family, like = subject.family, prompts.clean
    layers = family.graph.layers
    sums = _Sums(subject, prompts, changes)
    attentions, mlps = (torch.zeros(layers * asked, *like.shape, device=like.device) for asked in (channels, neurons))
    inputs = {site.mlp_norm.name: sums.mlps[layer] for layer, site in enumerate(family.sites)}
    # What a module writes is read by the readers alone: the gradient at it is the sum of those at its readers.
    outputs = dict(zip((site.attention_writer for site in family.sites), attentions, strict=False))
    outputs |= dict(zip((site.mlp_writer for site in family.sites), mlps, strict=False))
    inputs[family.final_norm.name] = sums.logits
    integrate(subject, prompts, schedule, together, sums, inputs=inputs, outputs=outputs)
    with torch.no_grad():
        return Products(
            sums.edges_found(),
            _of_neurons(subject, changes, mlps) if neurons else None,
            _of_channels(subject, changes, attentions) if channels else None,
        )


def _of_channels(subject: Subject, changes: Changes, gradients: Tensor) -> Tensor:
    """Return the scores of the output projections' inputs, from the gradients at what the attentions write."""
    found = []
    for layer, site in enumerate(subject.family.sites):
        step = changes.attention_step(layer)
        found.append(_inner(subject, changes.heads[layer], gradients[layer], site.output, step))
    return torch.stack(found)


def _of_neurons(subject: Subject, changes: Changes, gradients: Tensor) -> Tensor:
    """Return the scores of the down projections' inputs, from the gradients at what the MLPs write."""
    found = []
    for layer, site in enumerate(subject.family.sites):
        assert site.down is not None
        found.append(_inner(subject, changes.neurons[layer], gradients[layer], site.down, changes.mlp_step(layer)))
    return torch.stack(found)


def _inner(subject: Subject, changed: Tensor, gradient: Tensor, projection: str, step: PostNormStep | None) -> Tensor:
    flat = gradient.flatten(0, 1)
    written = flat if step is None else step.backward(flat)
    return (changed.flatten(0, 1) * (written @ subject.matrix(projection).float())).sum(0)


class _Sums:
    """The gradients of one batch as they add up, and the scores as far as they are known.

    `mlps` [layers, B, T, width] and `logits` [B, T, width]: the gradients at the readers that are whole modules.
    """

    def __init__(self, subject: Subject, prompts: Prompts, changes: Changes) -> None:
        family, device = subject.family, prompts.clean.device
        graph = family.graph
        self._subject, self._changes = subject, changes
        self._pairs, self._length, self._width = prompts.clean.shape
        self._embedded = prompts.corrupt.float() - prompts.clean.float()
        heads = graph.layer_columns(0).stop - 1
        shape = (graph.layers, heads, self._pairs, self._length, family.head_dim)
        self._through = torch.zeros(shape, device=device)
        self._edges = torch.zeros(self._pairs, graph.n_writers, graph.n_readers, device=device)
        self._dots: list[Tensor] = []
        self.mlps = torch.zeros(graph.layers, *prompts.clean.shape, device=device)
        self.logits = torch.zeros(prompts.clean.shape, device=device)

    def forwarded(self, streams: Sequence[Normed]) -> None:
        """Take the products ⟨w, x⟩: for each layer [B, writers before it, P, T]."""
        graph = self._subject.family.graph
        points = len(streams[0].stream) // self._pairs
        parts = [torch.unflatten(stream.stream, 0, (-1, points)) for stream in streams]
        self._dots = [
            torch.empty(self._pairs, graph.head_rows(layer).start, points, self._length, device=part.device)
            for layer, part in enumerate(parts)
        ]
        for layer in range(-1, graph.layers - 1):
            later = range(layer + 1, graph.layers)
            for span in self._spans(_WITHIN):
                rows, written = self._written(layer, span)
                at = torch.stack([parts[other][:, :, span] for other in later], 2)
                by_position = at.permute(0, 3, 2, 1, 4).flatten(0, 1).flatten(1, 2)
                found = torch.bmm(written.transpose(0, 1), by_position.transpose(1, 2))
                found = found.view(self._pairs, -1, found.shape[1], len(later), points).permute(3, 0, 2, 4, 1)
                for other, dots in zip(later, found, strict=True):
                    self._dots[other][:, rows, :, span] = dots

    def add(self, layer: int, columns: slice, through: Tensor, along: Tensor) -> None:
        """Take in one pass's gradients at the q, k or v readers of a layer."""
        first = self._subject.family.graph.layer_columns(layer).start
        self._through[layer, columns.start - first : columns.stop - first] += through.permute(2, 0, 1, 3)
        dots = self._dots[layer]
        self._edges[:, : dots.shape[1], columns] += torch.bmm(dots.flatten(2), along.flatten(1, 2))

    def edges_found(self) -> Tensor:
        """Form readers and writers, multiply, and return the scores, with nothing where no edge is."""
        graph = self._subject.family.graph
        for start in range(0, graph.layers, _LAYERS):
            block = range(start, min(start + _LAYERS, graph.layers))
            last = block.stop == graph.layers
            columns = slice(graph.layer_columns(start).start, graph.layer_columns(block[-1]).stop + last)
            for span in self._spans(_AFTER):
                by_reader = self._read(block, span).flatten(2).permute(1, 2, 0)
                for layer in range(-1, block.stop):
                    at, written = self._written(layer, span)
                    by_writer = written.view(len(written), self._pairs, -1).transpose(0, 1)
                    self._edges[:, at, columns] += torch.bmm(by_writer, by_reader)
        return self._edges.mul_(graph.real.to(self._edges.device))

    def _spans(self, positions: int) -> Iterator[slice]:
        """Cut the T positions of every pair so that about `positions` of all pairs are taken at a time."""
        step = max(1, positions // self._pairs)
        return (slice(start, min(start + step, self._length)) for start in range(0, self._length, step))

    def _written(self, layer: int, span: slice) -> tuple[slice, Tensor]:
        """Return the rows of a layer's heads and MLP and what they write, [rows, B·t, width]; of the input for −1."""
        if layer < 0:
            return slice(0, 1), self._embedded[:, span].reshape(1, -1, self._width)
        changes, rows = self._changes, self._subject.family.graph.head_rows(layer)
        mixed, step = changes.heads[layer][:, span], changes.attention_step(layer)
        mlp = changes.mlps[layer][:, span].reshape(-1, self._width)
        written = mlp.new_empty(rows.stop - rows.start + 1, *mlp.shape)
        if step is not None:
            step = step.at(self._length, span)
        head_outputs(self._subject, layer, mixed, step, out=written[:-1])
        written[-1] = mlp
        return slice(rows.start, rows.stop + 1), written

    def _read(self, layers: range, span: slice) -> Tensor:
        """Return the first part of the gradients at the readers of some layers, [readers, B, t, width].

        The read-out comes with the last layer.
        """
        graph = self._subject.family.graph
        last = layers.stop == graph.layers
        heads, kv = graph.heads, graph.kv_heads
        size, length = graph.layer_columns(0).stop, span.stop - span.start
        readers = self.logits.new_empty(len(layers) * size + last, self._pairs * length, self._width)
        for index, layer in enumerate(layers):
            own = readers[index * size : (index + 1) * size]
            through = self._through[layer, :, :, span].flatten(1, 2)
            ports = (slice(heads), slice(heads, heads + kv), slice(heads + kv, heads + 2 * kv))
            for port, rows in zip(ports, scaled_rows(self._subject, layer), strict=True):
                torch.bmm(through[port], rows, out=own[port])
            own[-1] = self.mlps[layer, :, span].reshape(-1, self._width)
        if last:
            readers[-1] = self.logits[:, span].reshape(-1, self._width)
        return readers.view(len(readers), self._pairs, length, self._width)
