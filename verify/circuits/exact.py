"""Exact edge patching: the yardstick that attribution approximates, for small models."""

from collections.abc import Sequence

import torch
from torch import nn

from verify.circuits.attribution import residual_of
from verify.circuits.circuit import Circuit, full_circuit
from verify.circuits.families import describe
from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.circuits.pairs import Pair
from verify.circuits.patching import patched_metrics
from verify.circuits.running import Progress
from verify.circuits.scores import EdgeScores


def exact_scores(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
    progress: Progress | None = None,
) -> EdgeScores:
    """Score every edge by running the model with that edge alone corrupt: m(patched) − m(clean), nothing linearised.

    One forward pass for each edge and batch: hours for a real model. Scores of single edges need not add up, so
    `residual` says how far they are from additive. `progress(done, total)` counts runs. Errors as in `attribute`.
    """
    graph = describe(model).graph
    whole = full_circuit(graph)
    cells = graph.real.flatten().nonzero().squeeze(1)
    circuits = [whole, Circuit(graph, torch.zeros_like(whole.edges))]
    for cell in cells.tolist():
        edges = whole.edges.clone()
        edges.view(-1)[cell] = False
        circuits.append(Circuit(graph, edges))
    measured = patched_metrics(model, pairs, circuits, metric=metric, batch_size=batch_size, progress=progress)
    clean, corrupt = measured[0], measured[1]
    kept = torch.zeros(len(pairs), graph.n_writers * graph.n_readers)
    kept[:, cells] = (measured[2:] - clean).T
    per_example = kept.view(len(pairs), graph.n_writers, graph.n_readers)
    return EdgeScores(
        graph=graph,
        pairs=tuple(pairs),
        rule="exact",
        points=0,
        scores=per_example.mean(0),
        per_example=per_example,
        neurons=None,
        metric_clean=clean,
        metric_corrupt=corrupt,
        residual=residual_of(per_example[:, 0].sum(-1), corrupt - clean),
        metric=metric,
    )
