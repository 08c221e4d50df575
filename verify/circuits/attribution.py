"""Edge attribution by integrated gradients (EAP-IG), by hooks on the Hugging Face model itself.

score(u, v) = Σ over positions of (activation of writer u, corrupt − clean) · (gradient of the metric at the input of
reader v, averaged over points on the line between the corrupt and the clean embeddings). To first order it is the
change of the metric when that one edge carries the corrupt activation.
Source: Hanna, Pezzelle, Belinkov, "Have Faith in Faithfulness" (arXiv 2403.17806); docs/cad.md.

Cost per batch: two forward passes and `points` forward and backward passes, whatever the number of edges, over the
active positions only. Memory: what autograd keeps of the points that share a pass, and several times less than that for
the scores (products.py); lower `batch_size` to bound it, or choose the lean way, one point a pass.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from verify.circuits.circuit import Circuit
from verify.circuits.invariants import subject_of
from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.circuits.pairs import Batch, Pair, batches, check_pairs
from verify.circuits.patching import faithfulness
from verify.circuits.products import Products, products
from verify.circuits.running import (
    Progress,
    Subject,
    change,
    frozen,
    prepare,
    record,
)
from verify.circuits.scores import EdgeScores, Rule
from verify.errors import UsageError

_TOKENS = 1024
"""Most positions of one pass: as many as keep the matrix products busy, for each costs memory in every layer."""


class _BatchScores(NamedTuple):
    """One batch: its scores, and the metrics [B]."""

    products: Products
    clean: Tensor
    corrupt: Tensor


def attribute(
    model: nn.Module | Subject,
    pairs: Sequence[Pair],
    *,
    rule: Rule = "midpoint",
    points: int = 5,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
    per_example: bool = False,
    neurons: bool = False,
    channels: bool = False,
    lean: bool = False,
    progress: Progress | None = None,
) -> EdgeScores:
    """Score every edge of `model` on `pairs`; the model is left as it was.

    A model is held against its family's description first; a subject, which `checked` returns, has been already.
    `rule`: `left`, `midpoint` or `gauss` integrate over `points`; `clean` and `corrupt` are plain EAP, one gradient at
    that end. `metric`: see metrics.py. `neurons`, `channels`: score the inputs of the down and of the output
    projections in the same passes. `lean`: the same scores, one point a pass, in the least memory.
    Parameters may be float32 or bfloat16; differences, gradients and scores accumulate in float32.
    `progress(done, total)` counts pairs. Raises `UsageError` for an unsupported model, unusable pairs or options.
    """
    subject = subject_of(model)
    family = subject.family
    schedule = integration_points(rule, points)
    check_pairs(pairs, family.vocabulary, metric)
    if neurons and family.d_ff == 0:
        raise UsageError(
            f"{family.architecture} is a mixture of experts: each of its MLPs is one node, without neurons",
            remedy="attribute its edges only",
        )
    graph, count = family.graph, len(pairs)
    total = torch.zeros(graph.n_writers, graph.n_readers)
    kept = torch.empty(count, graph.n_writers, graph.n_readers) if per_example else None
    neuron_total = torch.zeros(graph.layers, family.d_ff) if neurons else None
    channel_total = torch.zeros(graph.layers, graph.heads * family.head_dim) if channels else None
    clean, corrupt, input_row = torch.empty(count), torch.empty(count), torch.empty(count)
    done = 0
    with frozen(subject.model), torch.enable_grad():
        for batch in batches(pairs, batch_size, subject.device, metric):
            found = _attribute_batch(subject, batch, schedule, neurons=neurons, channels=channels, lean=lean)
            edges, of_neurons, of_channels = found.products
            order = list(batch.order)
            total += edges.sum(0).cpu()
            clean[order], corrupt[order] = found.clean.cpu(), found.corrupt.cpu()
            input_row[order] = edges[:, 0].sum(-1).cpu()
            if kept is not None:
                kept[order] = edges.cpu()
            if neuron_total is not None and of_neurons is not None:
                neuron_total += of_neurons.cpu()
            if channel_total is not None and of_channels is not None:
                channel_total += of_channels.cpu()
            done += len(order)
            if progress is not None:
                progress(done, count)
    return EdgeScores(
        graph=graph,
        pairs=tuple(pairs),
        rule=rule,
        points=len(schedule),
        scores=total / count,
        per_example=kept,
        neurons=None if neuron_total is None else neuron_total / count,
        metric_clean=clean,
        metric_corrupt=corrupt,
        residual=residual_of(input_row, corrupt - clean),
        channels=None if channel_total is None else channel_total.view(graph.layers, graph.heads, -1) / count,
        metric=metric,
        runner=_runner(subject.model, metric, batch_size),
    )


def _runner(model: nn.Module, metric: Metric, batch_size: int) -> Callable[[Circuit, Sequence[Pair]], float]:
    """Return what `EdgeScores.run` calls; it does not keep the model alive."""
    reference = weakref.ref(model)

    def run_circuit(circuit: Circuit, pairs: Sequence[Pair]) -> float:
        subject = reference()
        if subject is None:
            raise UsageError("the model of these scores is gone", remedy="call faithfulness(model, pairs, circuit)")
        return faithfulness(subject, pairs, circuit, metric=metric, batch_size=batch_size)

    return run_circuit


def integration_points(rule: Rule, points: int) -> list[tuple[float, float]]:
    """Return (alpha, weight) of each point; alpha runs from 0, corrupt, to 1, clean; weights sum to one.

    `left` is the public EAP-IG's rule, for parity; `midpoint` and `gauss` (Gauss-Legendre) are symmetric. `clean` and
    `corrupt` have one point, whatever `points`.
    """
    if points < 1:
        raise UsageError("integration needs at least one point", found=str(points))
    if rule in {"clean", "corrupt"}:
        return [(float(rule == "clean"), 1.0)]
    if rule == "left":
        return [(k / points, 1 / points) for k in range(points)]
    if rule == "midpoint":
        return [((k + 0.5) / points, 1 / points) for k in range(points)]
    if rule == "gauss":
        nodes, weights = np.polynomial.legendre.leggauss(points)
        return [(float(x + 1) / 2, float(w) / 2) for x, w in zip(nodes, weights, strict=True)]
    raise UsageError("unknown integration rule", expected="left, midpoint, gauss, clean or corrupt", found=str(rule))


def residual_of(found: Tensor, wanted: Tensor) -> float:
    """Return Σ|found − wanted| / Σ|wanted|; 0 where both are 0."""
    error, scale = float((found - wanted).abs().sum()), float(wanted.abs().sum())
    if scale == 0:
        return 0.0 if error == 0 else float("inf")
    return error / scale


def _attribute_batch(
    subject: Subject,
    batch: Batch,
    schedule: list[tuple[float, float]],
    *,
    neurons: bool,
    channels: bool,
    lean: bool,
) -> _BatchScores:
    prompts = prepare(subject, batch)
    both = torch.stack([prompts.corrupt, prompts.clean], 1).flatten(0, 1)
    recorded, metrics = record(subject, prompts, both, neurons=neurons)
    corrupt, clean = metrics.view(-1, 2).T
    changes = change(subject, recorded)
    del recorded
    together = 1 if lean else max(1, _TOKENS // prompts.positions)
    found = products(subject, prompts, changes, schedule, together, neurons=neurons, channels=channels)
    return _BatchScores(found, clean, corrupt)
