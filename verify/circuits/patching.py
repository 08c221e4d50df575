"""What a circuit does alone: run the model with every edge outside the circuit carrying the corrupt activation.

Each reader's input is x − Σ over writers u whose edge is cut of (live activation of u − corrupt activation of u), where
x is the live residual stream of the patched run. Every q head, every k and v head, every MLP and the read-out have
their own input, as the edges say; nothing is linearised. The full circuit gives the clean run, the empty one the
corrupt run.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verify.circuits.circuit import Circuit
from verify.circuits.families import Rows, bias
from verify.circuits.invariants import subject_of
from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.circuits.norms import PostNormStep
from verify.circuits.pairs import Pair, batches, check_pairs
from verify.circuits.running import Activations, Progress, Prompts, Subject, frozen, head_outputs, prepare, record, run
from verify.errors import UndecidedError, UsageError


@dataclass(frozen=True, eq=False)
class Case:
    """A batch with its corrupt activations."""

    prompts: Prompts
    corrupt: Activations


@dataclass(frozen=True, eq=False)
class Study:
    """A model and pairs, prepared once so that many circuits can be evaluated. Metrics are means over pairs."""

    subject: Subject
    cases: tuple[Case, ...]
    count: int
    clean: float
    corrupt: float


@dataclass(frozen=True, eq=False)
class _Patch:
    """State of one patched run.

    `cut` float32 [readers, writers]: 1 where a real edge is outside the circuit. `deltas` float32
    [writers, B·T, width]: live − corrupt activation of every writer that has run so far.
    """

    case: Case
    cut: Tensor
    deltas: Tensor

    def missing(self, columns: slice, writers: int, like: Tensor) -> Tensor:
        """Return what the cut edges take from each reader in `columns`: [readers, *like.shape] in float32."""
        part = self.cut[columns, :writers] @ self.deltas[:writers].flatten(1)
        return part.view(-1, *like.shape)


def faithfulness(
    model: nn.Module | Subject,
    pairs: Sequence[Pair],
    circuit: Circuit,
    *,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
) -> float:
    """Return (m(C) − m(∅)) / (m(M) − m(∅)) of the mean metric m over `pairs`; 1 for the model, 0 for nothing.

    A model is held against its family's description first; a subject, which `checked` returns, has been already.
    Raises `UsageError` for an unsupported model, unusable pairs or a circuit of another graph, and `UndecidedError`
    when corruption does not change the mean metric.
    """
    subject = subject_of(model)
    with frozen(subject.model), torch.no_grad():
        study = prepare_study(subject, pairs, metric, batch_size)
        return faithfulness_of(study, circuit)


def patched_metric(
    model: nn.Module | Subject,
    pairs: Sequence[Pair],
    circuit: Circuit,
    *,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
) -> Tensor:
    """Return the metric of each pair, float32 [pairs], with every edge outside the circuit corrupt."""
    return patched_metrics(model, pairs, [circuit], metric=metric, batch_size=batch_size)[0]


def patched_metrics(
    model: nn.Module | Subject,
    pairs: Sequence[Pair],
    circuits: Sequence[Circuit],
    *,
    metric: Metric = answer_minus_alternatives,
    batch_size: int = 20,
    progress: Progress | None = None,
) -> Tensor:
    """Return the metric of each pair in each circuit, float32 [circuits, pairs]; `progress(done, total)` in circuits.

    What the circuits share, the clean and corrupt runs, is computed once. Errors as in `faithfulness`.
    """
    metrics = torch.empty(len(circuits), len(pairs))
    subject = subject_of(model)
    with frozen(subject.model), torch.no_grad():
        study = prepare_study(subject, pairs, metric, batch_size)
        for index, circuit in enumerate(circuits):
            _check_graph(study, circuit)
            for case in study.cases:
                metrics[index, list(case.prompts.batch.order)] = _run_patched(study.subject, case, circuit).cpu()
            if progress is not None:
                progress(index + 1, len(circuits))
    return metrics


def prepare_study(subject: Subject, pairs: Sequence[Pair], metric: Metric, batch_size: int) -> Study:
    """Run the pairs clean and corrupt, once for all circuits. Raises `UsageError` when they are unusable."""
    check_pairs(pairs, subject.family.vocabulary, metric)
    cases, clean, corrupt = [], 0.0, 0.0
    for batch in batches(pairs, batch_size, subject.device, metric):
        prompts = prepare(subject, batch)
        activations, measured = record(subject, prompts, prompts.corrupt)
        cases.append(Case(prompts, activations))
        corrupt += float(measured.sum())
        clean += float(run(subject, prompts, prompts.clean).sum())
    return Study(subject, tuple(cases), len(pairs), clean / len(pairs), corrupt / len(pairs))


def _check_graph(study: Study, circuit: Circuit) -> None:
    if circuit.graph != study.subject.family.graph:
        raise UsageError(
            "the circuit belongs to another graph than the model",
            expected=str(study.subject.family.graph),
            found=str(circuit.graph),
        )


def faithfulness_of(study: Study, circuit: Circuit) -> float:
    """Return a circuit's faithfulness on prepared pairs; errors as in `faithfulness`."""
    _check_graph(study, circuit)
    span = study.clean - study.corrupt
    if span == 0 or not math.isfinite(span):
        raise UndecidedError(
            "faithfulness is undefined: the clean and the corrupt prompts have the same mean metric",
            expected="a metric that the corruption changes",
            found=f"clean {study.clean:g}, corrupt {study.corrupt:g}",
            remedy="choose pairs that the model tells apart",
        )
    patched = sum(float(_run_patched(study.subject, case, circuit).sum()) for case in study.cases)
    return (patched / study.count - study.corrupt) / span


def _run_patched(subject: Subject, case: Case, circuit: Circuit) -> Tensor:
    """Return the metric of each prompt of one batch, [B], in the patched run from the clean embeddings."""
    prompts, family = case.prompts, subject.family
    graph = family.graph
    device = prompts.clean.device
    cut = (graph.real & ~circuit.edges).T.float().to(device)
    deltas = torch.zeros(graph.n_writers, prompts.positions, family.width, device=device)
    deltas[0] = (prompts.clean.float() - prompts.corrupt.float()).flatten(0, 1)
    patch = _Patch(case, cut, deltas)
    with ExitStack() as hooks:
        for layer in range(graph.layers):
            _patch_heads(hooks, subject, layer, patch)
            _patch_mlp(hooks, subject, layer, patch)
        _patch_input(hooks, subject.module(family.final_norm.name), graph.n_readers - 1, graph.n_writers, patch)
        return run(subject, prompts, prompts.clean)


def _patch_input(hooks: ExitStack, module: nn.Module, column: int, writers: int, patch: _Patch) -> None:
    """Take from the input of `module`, a reader of its own, what its cut edges carry."""

    def replace(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        stream = args[0]
        missing = patch.missing(slice(column, column + 1), writers, stream)[0]
        return ((stream.float() - missing).to(stream.dtype), *args[1:])

    hooks.enter_context(module.register_forward_pre_hook(replace))


def _patch_mlp(hooks: ExitStack, subject: Subject, layer: int, patch: _Patch) -> None:
    family = subject.family
    site, graph = family.sites[layer], family.graph
    row = graph.mlp_row(layer)

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        patch.deltas[row] = (output.float() - patch.case.corrupt.mlps[layer].float()).flatten(0, 1)

    _patch_input(hooks, subject.module(site.mlp_norm.name), graph.mlp_column(layer), graph.read_by_mlp(layer), patch)
    hooks.enter_context(subject.module(site.mlp_writer).register_forward_hook(keep))


def _patch_heads(hooks: ExitStack, subject: Subject, layer: int, patch: _Patch) -> None:
    """Give every q, k and v head its own input; record what the heads then write."""
    family = subject.family
    site, graph = family.sites[layer], family.graph
    norm = subject.module(site.attention_norm.name)
    columns, written = graph.attention_columns(layer), graph.head_rows(layer)
    inputs: list[Tensor] = []

    def read(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        stream = args[0]
        own = stream.float() - patch.missing(columns, written.start, stream)
        # `forward` rather than a call: this runs inside the norm's own hook.
        inputs.append(norm.forward(own.to(stream.dtype)).flatten(1, 2))

    def project(rows: Rows, readers: slice) -> None:
        heads = slice(readers.start - columns.start, readers.stop - columns.start)
        count = heads.stop - heads.start

        def replace(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            weight = subject.weights(rows, count).to(output.dtype)
            own = torch.bmm(inputs[0][heads], weight.transpose(1, 2)).transpose(0, 1)
            replaced = output.clone()  # other heads may share this projection
            target = rows.outputs(replaced, count)
            target.copy_(own.reshape(target.shape) + rows.outputs(bias(subject.model, rows.module), count))
            return replaced

        hooks.enter_context(subject.module(rows.module).register_forward_hook(replace))

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        change = args[0].float() - patch.case.corrupt.heads[layer].float()
        post, step = site.attention_post, None
        if post is not None:
            step = PostNormStep.between(subject.model, post, output, patch.case.corrupt.attended[layer])
        patch.deltas[written] = head_outputs(subject, layer, change, step)

    hooks.enter_context(norm.register_forward_pre_hook(read))
    for projected, readers in zip((site.query, site.key, site.value), graph.projection_columns(layer), strict=True):
        project(projected, readers)
    hooks.enter_context(subject.module(site.output).register_forward_hook(keep))
