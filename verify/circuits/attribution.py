"""Edge attribution by integrated gradients (EAP-IG), by hooks on the Hugging Face model itself.

score(u, v) = Σ over positions of (activation of writer u, corrupt − clean) · (gradient of the metric at the input of
reader v, averaged over points on the line between the corrupt and the clean embeddings). To first order it is the
change of the metric when that one edge carries the corrupt activation.
Source: Hanna, Pezzelle, Belinkov, "Have Faith in Faithfulness" (arXiv 2403.17806); DESIGN section 5.

Cost per batch: two forward passes and `points` forward and backward passes, whatever the number of edges, over the
active positions only. Memory: float32 [readers, active positions, width] per batch; lower `batch_size` to bound it.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from verify.circuits.circuit import Circuit
from verify.circuits.gradients import reader_gradients
from verify.circuits.invariants import checked
from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.circuits.norms import PostNormStep
from verify.circuits.pairs import Batch, Pair, batches, check_pairs
from verify.circuits.patching import faithfulness
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
    """One batch: `edges` [B, writers, readers] and metrics [B].

    `neurons` [layers, d_ff] and `channels` [layers, heads · head_dim] are sums over pairs.
    """

    edges: Tensor
    neurons: Tensor | None
    channels: Tensor | None
    clean: Tensor
    corrupt: Tensor


def attribute(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    rule: Rule = "midpoint",
    points: int = 5,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
    per_example: bool = False,
    neurons: bool = False,
    channels: bool = False,
    progress: Progress | None = None,
) -> EdgeScores:
    """Score every edge of `model` on `pairs`; the model is left as it was.

    `rule`: `left`, `midpoint` or `gauss` integrate over `points`; `clean` and `corrupt` are plain EAP, one gradient at
    that end. `metric`: see metrics.py. `neurons`, `channels`: score the inputs of the down and of the output
    projections in the same passes.
    Parameters may be float32 or bfloat16; differences, gradients and scores accumulate in float32.
    `progress(done, total)` counts pairs. Raises `UsageError` for an unsupported model, unusable pairs or options.
    """
    subject = checked(model)
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
    with frozen(model), torch.enable_grad():
        for batch in batches(pairs, batch_size, subject.device, metric):
            found = _attribute_batch(subject, batch, schedule, neurons=neurons, channels=channels)
            order = list(batch.order)
            total += found.edges.sum(0).cpu()
            clean[order], corrupt[order] = found.clean.cpu(), found.corrupt.cpu()
            input_row[order] = found.edges[:, 0].sum(-1).cpu()
            if kept is not None:
                kept[order] = found.edges.cpu()
            if neuron_total is not None and found.neurons is not None:
                neuron_total += found.neurons.cpu()
            if channel_total is not None and found.channels is not None:
                channel_total += found.channels.cpu()
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
        runner=_runner(model, metric, batch_size),
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
    subject: Subject, batch: Batch, schedule: list[tuple[float, float]], *, neurons: bool, channels: bool
) -> _BatchScores:
    prompts = prepare(subject, batch)
    recorded, metrics = record(subject, prompts, torch.stack([prompts.corrupt, prompts.clean], 1).flatten(0, 1))
    metric_corrupt, metric_clean = metrics.view(-1, 2).T
    changes = change(subject, recorded)
    del recorded
    readers = reader_gradients(subject, prompts, schedule)
    with torch.no_grad():
        return _BatchScores(
            edges=_edge_scores(subject, prompts, changes, readers),
            neurons=_neuron_scores(subject, changes, readers) if neurons else None,
            channels=_channel_scores(subject, changes, readers) if channels else None,
            clean=metric_clean,
            corrupt=metric_corrupt,
        )


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
    """Multiply the neurons' differences with the gradients at them: float32 [layers, d_ff], summed over pairs."""
    scores = []
    for layer, (site, changed) in enumerate(zip(subject.family.sites, changes.neurons, strict=True)):
        assert site.down is not None
        written = _written_gradient(subject, readers, subject.family.graph.mlp_row(layer), changes.mlp_step(layer))
        scores.append((changed.flatten(0, 1) * (written @ subject.matrix(site.down).float())).sum(0))
    return torch.stack(scores)


def _channel_scores(subject: Subject, changes: Changes, readers: Tensor) -> Tensor:
    """Multiply the heads' differences with the gradients at them: float32 [layers, heads · head_dim], as above."""
    scores = []
    for layer, (site, changed) in enumerate(zip(subject.family.sites, changes.heads, strict=True)):
        row = subject.family.graph.head_rows(layer).start
        written = _written_gradient(subject, readers, row, changes.attention_step(layer))
        scores.append((changed.flatten(0, 1) * (written @ subject.matrix(site.output).float())).sum(0))
    return torch.stack(scores)


def _written_gradient(subject: Subject, readers: Tensor, row: int, step: PostNormStep | None) -> Tensor:
    """Return the gradient at what a writer's projection gives, float32 [B·T, width].

    What is written is read by the readers alone, so their gradients sum to the gradient at it.
    """
    later = subject.family.graph.real[row].to(readers.device, readers.dtype)
    written = torch.tensordot(later, readers, 1)
    return written if step is None else step.backward(written)
