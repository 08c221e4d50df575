"""From edge scores to the map that reports and `mansu circuit` draw."""

import torch
from torch import Tensor

from verify.circuits import EdgeScores
from verify.contract.circuit import CircuitMap, MapEdge
from verify.errors import UndecidedError, UsageError

EDGES = 40
"""Edges of a map by their score before, and as many by their score after: more than that is a hairball."""

DIGITS = 4
"""Significant digits of a score in a map: it is drawn, and CAD is computed from the whole scores."""


def circuit_map(before: EdgeScores, after: EdgeScores | None = None, *, edges: int = EDGES) -> CircuitMap:
    """Return the map of one model, or of two on the same pairs: every node's score, and the strongest edges of each.

    Raises `UsageError` for scores on two graphs, `UndecidedError` for one that is not finite.
    """
    graph, real = before.graph, before.real
    if after is not None and after.graph != graph:
        raise UsageError("scores can be drawn side by side only on one graph")
    for scores in (before, after):
        if scores is not None and not bool(scores.scores.isfinite().all()):
            raise UndecidedError("an edge score is not finite, so that it cannot be drawn")
    wanted = dict.fromkeys(_strongest(before.scores, real, edges))
    if after is not None:
        wanted |= dict.fromkeys(_strongest(after.scores, real, edges))
    return CircuitMap(
        layers=graph.layers,
        heads=graph.heads,
        kv_heads=graph.kv_heads,
        before=tuple(map(_rounded, node_scores(before))),
        after=None if after is None else tuple(map(_rounded, node_scores(after))),
        edges=tuple(
            MapEdge(
                writer=graph.writers[row],
                reader=graph.readers[column],
                before=_rounded(before.scores[row, column]),
                after=None if after is None else _rounded(after.scores[row, column]),
            )
            for row, column in wanted
        ),
    )


def node_scores(scores: EdgeScores) -> Tensor:
    """Return the sum of each writer's edges, and of the edges into the logits: float32 [writers + 1]."""
    return torch.cat([scores.scores.sum(1), scores.scores[:, -1].sum()[None]])


def _strongest(scores: Tensor, real: Tensor, count: int) -> list[tuple[int, int]]:
    """Return row and column of the largest |score| that are not zero, the largest first."""
    sizes = scores.abs().masked_fill(~real, 0).flatten()
    order = sizes.argsort(descending=True, stable=True)[:count].tolist()
    return [divmod(i, scores.shape[1]) for i in order if sizes[i] > 0]


def _rounded(value: Tensor) -> float:
    return float(f"{float(value):.{DIGITS}g}")
