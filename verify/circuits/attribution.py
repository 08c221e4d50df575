"""Edge attribution by integrated gradients (EAP-IG), by hooks on the Hugging Face model itself.

score(u, v) = Σ over positions of (activation of writer u, corrupt − clean) · (gradient of the metric at the input of
reader v, averaged over points on the line between the corrupt and the clean embeddings). To first order it is the
change of the metric when that one edge carries the corrupt activation.
Source: Hanna, Pezzelle, Belinkov, "Have Faith in Faithfulness" (arXiv 2403.17806); DESIGN section 5.

Cost per batch: two forward passes and `points` forward and backward passes, whatever the number of edges, over the
active positions only. Memory: float32 [readers, active positions, width] per batch; lower `batch_size` to bound it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from verify.circuits.gradients import reader_gradients
from verify.circuits.invariants import checked
from verify.circuits.pairs import Batch, Pair, batches, check_pairs
from verify.circuits.running import (
    Changes,
    Progress,
    Prompts,
    Subject,
    change,
    frozen,
    head_outputs,
    prepare,
    record,
)
from verify.circuits.scores import EdgeScores, Rule
from verify.errors import UsageError


@dataclass(frozen=True, eq=False)
class _BatchScores:
    """One batch: `edges` [B, writers, readers], `neurons` [layers, d_ff] summed over pairs, metrics [B]."""

    edges: Tensor
    neurons: Tensor | None
    clean: Tensor
    corrupt: Tensor


def attribute(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    rule: Rule = "midpoint",
    points: int = 5,
    batch_size: int = 20,
    per_example: bool = False,
    neurons: bool = False,
    progress: Progress | None = None,
) -> EdgeScores:
    """Score every edge of `model` on `pairs`; the model is left as it was.

    Parameters may be float32 or bfloat16; differences, gradients and scores accumulate in float32.
    `progress(done, total)` counts pairs. Raises `UsageError` for an unsupported model, unusable pairs or options.
    """
    subject = checked(model)
    family = subject.family
    schedule = integration_points(rule, points)
    if neurons and family.d_ff == 0:
        raise UsageError(
            f"{family.architecture} is a mixture of experts: each of its MLPs is one node, without neurons",
            remedy="attribute its edges only",
        )
    check_pairs(pairs, family.vocabulary)
    graph, count = family.graph, len(pairs)
    total = torch.zeros(graph.n_writers, graph.n_readers)
    kept = torch.empty(count, graph.n_writers, graph.n_readers) if per_example else None
    neuron_total = torch.zeros(graph.layers, family.d_ff) if neurons else None
    clean, corrupt, input_row = torch.empty(count), torch.empty(count), torch.empty(count)
    done = 0
    with frozen(model), torch.enable_grad():
        for batch in batches(pairs, batch_size, subject.device):
            found = _attribute_batch(subject, batch, schedule, neurons=neurons)
            order = list(batch.order)
            total += found.edges.sum(0).cpu()
            clean[order], corrupt[order] = found.clean.cpu(), found.corrupt.cpu()
            input_row[order] = found.edges[:, 0].sum(-1).cpu()
            if kept is not None:
                kept[order] = found.edges.cpu()
            if neuron_total is not None and found.neurons is not None:
                neuron_total += found.neurons.cpu()
            done += len(order)
            if progress is not None:
                progress(done, count)
    return EdgeScores(
        graph=graph,
        pairs=tuple(pairs),
        rule=rule,
        points=points,
        scores=total / count,
        per_example=kept,
        neurons=None if neuron_total is None else neuron_total / count,
        metric_clean=clean,
        metric_corrupt=corrupt,
        residual=_residual(input_row, corrupt - clean),
    )


def integration_points(rule: Rule, points: int) -> list[tuple[float, float]]:
    """Return (alpha, weight) of each point; alpha runs from 0, corrupt, to 1, clean; weights sum to one.

    `left` is the public EAP-IG's rule, for parity; `midpoint` and `gauss` (Gauss-Legendre) are symmetric.
    """
    if points < 1:
        raise UsageError("integration needs at least one point", found=str(points))
    if rule == "left":
        return [(k / points, 1 / points) for k in range(points)]
    if rule == "midpoint":
        return [((k + 0.5) / points, 1 / points) for k in range(points)]
    if rule == "gauss":
        nodes, weights = np.polynomial.legendre.leggauss(points)
        return [(float(x + 1) / 2, float(w) / 2) for x, w in zip(nodes, weights, strict=True)]
    raise UsageError("unknown integration rule", expected="left, midpoint or gauss", found=str(rule))


def _residual(found: Tensor, wanted: Tensor) -> float:
    error, scale = float((found - wanted).abs().sum()), float(wanted.abs().sum())
    if scale == 0:
        return 0.0 if error == 0 else float("inf")
    return error / scale


def _attribute_batch(
    subject: Subject, batch: Batch, schedule: list[tuple[float, float]], *, neurons: bool
) -> _BatchScores:
    prompts = prepare(subject, batch)
    recorded, metrics = record(subject, prompts, torch.stack([prompts.corrupt, prompts.clean], 1).flatten(0, 1))
    metric_corrupt, metric_clean = metrics.view(-1, 2).T
    changes = change(subject, recorded)
    del recorded
    readers = reader_gradients(subject, prompts, schedule)
    with torch.no_grad():
        edges = _edge_scores(subject, prompts, changes, readers)
        by_neuron = _neuron_scores(subject, changes, readers) if neurons else None
        return _BatchScores(edges, by_neuron, metric_clean, metric_corrupt)


def _edge_scores(subject: Subject, prompts: Prompts, changes: Changes, readers: Tensor) -> Tensor:
    """Multiply the writers' differences with the readers' gradients: float32 [B, writers, readers].

    Writers are formed layer by layer and meet all later readers in one product, so that they never all exist at once.
    """
    graph, size = subject.family.graph, prompts.clean.shape[0]
    by_reader = readers.view(graph.n_readers, size, -1).permute(1, 2, 0)
    edges = torch.zeros(size, graph.n_writers, graph.n_readers, device=readers.device)
    embedded = prompts.corrupt.float() - prompts.clean.float()
    edges[:, :1] = torch.bmm(embedded.reshape(size, 1, -1), by_reader)
    for layer in range(graph.layers):
        heads = head_outputs(subject, layer, changes.heads[layer], changes.attention_step(layer))
        block = torch.cat([heads, changes.mlps[layer].reshape(1, *heads.shape[1:])])
        by_writer = block.view(graph.heads + 1, size, -1).transpose(0, 1)
        first, rows = graph.mlp_column(layer), graph.head_rows(layer)
        edges[:, rows.start : rows.stop + 1, first:] = torch.bmm(by_writer, by_reader[:, :, first:])
    return edges.mul_(graph.real.to(edges.device))


def _neuron_scores(subject: Subject, changes: Changes, readers: Tensor) -> Tensor:
    """Multiply the neurons' differences with the gradients at them: float32 [layers, d_ff], summed over pairs.

    What an MLP writes is read by the later readers alone, so their gradients sum to the gradient at its output.
    """
    graph, sites = subject.family.graph, subject.family.sites
    scores = []
    later, end = torch.zeros_like(readers[0]), graph.n_readers
    for layer in reversed(range(graph.layers)):
        first = graph.mlp_column(layer) + 1
        later, end = later + readers[first:end].sum(0), first
        step, down = changes.mlp_step(layer), sites[layer].down
        assert down is not None
        written = later if step is None else step.backward(later)
        scores.append((changes.neurons[layer].flatten(0, 1) * (written @ subject.matrix(down).float())).sum(0))
    return torch.stack(scores[::-1])
