"""Circuits from scores: the strongest edges, or those that grow from the read-out; what leads nowhere is pruned."""

import heapq
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from verify.circuits.circuit import Circuit, of_cells, prune
from verify.circuits.scores import EdgeScores
from verify.errors import UndecidedError, UsageError

Extraction: TypeAlias = Callable[[EdgeScores, int], Circuit]
"""extraction(scores, n): a circuit of at most n edges."""


def top_edges(scores: EdgeScores, n: int) -> Circuit:
    """Return the `n` edges of largest |score|, pruned; ties go to the earlier edge.

    More than there are means all. Raises `UsageError` when `n` is negative, `UndecidedError` for a non-finite score.
    """
    strength = _strength(scores, n)
    cells = scores.real.flatten().nonzero().squeeze(1)
    order = strength.flatten()[cells].argsort(descending=True, stable=True)
    return Circuit(scores.graph, prune(scores.graph, of_cells(scores.graph, cells[order[:n]])))


def greedy_edges(scores: EdgeScores, n: int) -> Circuit:
    """Grow a circuit from the read-out: `n` times the strongest edge into what is connected so far; then prune.

    Connected are the logits, and all that is read by the writers of chosen edges. Ties go to the earlier edge. So no
    edge is chosen that leads nowhere, and one that no chosen edge leads to from the input is pruned: fewer than `n` may
    be left. More than there are means all. Errors as in `top_edges`.
    """
    strength = _strength(scores, n)
    graph = scores.graph
    order = strength.T.argsort(dim=1, descending=True, stable=True)
    sources = scores.real.sum(0).tolist()
    inputs = [graph.feeds[:, row].nonzero().flatten().tolist() for row in range(graph.n_writers)]
    # the strongest edge not yet chosen of every connected reader; which of its sources it is
    heap: list[tuple[float, int, int, int]] = []

    def offer(reader: int, place: int) -> None:
        if place < sources[reader]:
            writer = int(order[reader, place])
            heapq.heappush(heap, (-float(strength[writer, reader]), writer, reader, place))

    connected = {graph.n_readers - 1}
    offer(graph.n_readers - 1, 0)
    chosen: list[int] = []
    while heap and len(chosen) < n:
        _, writer, reader, place = heapq.heappop(heap)
        chosen.append(writer * graph.n_readers + reader)
        offer(reader, place + 1)
        for fresh in inputs[writer]:
            if fresh not in connected:
                connected.add(fresh)
                offer(fresh, 0)
    edges = of_cells(graph, torch.tensor(chosen, dtype=torch.int64))
    return Circuit(graph, prune(graph, edges))


def _strength(scores: EdgeScores, n: int) -> Tensor:
    """Return |score| where an edge exists, −1 elsewhere: float32 [writers, readers]."""
    if n < 0:
        raise UsageError("a circuit cannot have a negative number of edges", found=str(n))
    if not bool(scores.scores.isfinite().all()):
        raise UndecidedError("an edge score is not finite, so edges cannot be ranked")
    return scores.scores.abs().masked_fill(~scores.real, -1.0)
