"""A family's description held against the model at hand, on one prompt of three tokens, before anything is scored.

1. *Streams.* Every norm computes what its description says. What each reader reads is the input plus the writers that
   the graph puts before it, post-norms included: so the full circuit is the clean run and the empty one the corrupt.
2. *Slices.* Zeroing the rows that a head or a neuron owns moves the columns that it owns and nothing else; keys and
   values act where attention lets them. One pass holds a row for every slice; each layer passes on the clean row, so
   that the matrices are multiplied by that one only.
3. *Gradients.* The gradient at what a writer adds to the stream is the sum of the gradients at its readers, so the sum
   of its scores is the node's own attribution.

A model that does not pass is refused: its scores would be numbers about something else.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verify.circuits.families import LayerSites, Norm, OwnedSlice, bias, gain, owned_slices
from verify.circuits.four_bit import computes_rounded
from verify.circuits.gradients import reader_gradients
from verify.circuits.norms import normed
from verify.circuits.pairs import Pair, batches
from verify.circuits.running import Prompts, Subject, change, frozen, head_outputs, prepare, record, run
from verify.errors import UndecidedError, UsageError

_ERROR = "ME260"
_TOKENS = 3
# Mean error relative to each channel's scale: rounding, and far below what a wrong description makes.
_EXACT, _ROUNDED = 1e-3, 5e-2
# Rows of one pass hold the same numbers, so that what did not move is equal but for the order of a sum.
_STILL = 1e-5


@dataclass(frozen=True, eq=False)
class _Zeroed:
    """One row of the pass over slices: rows of a layer that give their bias only, at the positions before `last`.

    `columns`: which inputs of the layers that read heads and neurons may move. `silent`: leading positions at which
    nothing may. `moves`: the kind of row of which at least one must move something.
    """

    node: str
    moves: str
    slices: tuple[OwnedSlice, ...]
    columns: tuple[OwnedSlice, ...]
    last: int = _TOKENS
    silent: int = 0


def subject_of(model: nn.Module | Subject) -> Subject:
    """Return a subject as it is, for whoever has checked it answers for it; hold a model against its description."""
    return model if isinstance(model, Subject) else checked(model)


def checked(model: nn.Module) -> Subject:
    """Describe `model` and hold the description against it; the model is left as it was.

    Nothing is remembered from call to call. What a model computes depends on more than can be watched: an edit through
    `.data` or of a buffer shared with NumPy leaves a tensor's version as it was, and a replaced function, of an
    instance or of a module of code, leaves no trace on the modules. A memory would therefore pass stale models; whoever
    knows that a model has not changed passes on the subject instead.
    Raises `UsageError` for an unsupported model, and with the id ME260 where the description does not fit this one;
    `UndecidedError` where the model's numbers are not finite.
    """
    subject = Subject.of(model)
    step = max(1, subject.family.vocabulary // (2 * _TOKENS + 1))
    ids = [(1 + k) * step % subject.family.vocabulary for k in range(2 * _TOKENS)]
    pair = Pair(tuple(ids[:_TOKENS]), tuple(ids[_TOKENS:]), 0, (1,))
    with frozen(model), torch.enable_grad():
        prompts = prepare(subject, next(batches([pair], 1, subject.device)))
        with torch.no_grad():
            _check_streams(subject, prompts)
            _check_slices(subject, prompts)
        _check_gradients(subject, prompts)
    return subject


def _refusal(subject: Subject, what: str, found: str) -> UsageError:
    name = subject.family.architecture
    return UsageError(
        f"the description of {name} does not fit this model: {what}",
        expected=f"a model that computes what verify/circuits/families says of {name}",
        found=found,
        remedy="use a plain model of the family, or describe this variant: docs/families.md",
        error_id=_ERROR,
    )


def _compare(subject: Subject, what: str, found: Tensor, wanted: Tensor, scale: Tensor | None = None) -> None:
    """Refuse unless two tensors [..., width] agree, relative to each channel's `scale` [width]."""
    found, wanted = found.float().flatten(0, -2), wanted.float().flatten(0, -2)
    if not bool(found.isfinite().all() and wanted.isfinite().all()):
        raise UndecidedError(f"the model's numbers are not finite: {what}", remedy="check the weights of the model")
    size = wanted.abs().amax(0) if scale is None else scale
    size = size.clamp(min=max(float(size.mean()) * 1e-2, 1e-30))
    error = float(((found - wanted).abs().amax(0) / size).mean())
    embedding = subject.model.get_parameter(f"{subject.family.embedding}.weight")
    plain = embedding.dtype == torch.float32 and not computes_rounded(subject.model)
    if error > (_EXACT if plain else _ROUNDED):
        raise _refusal(subject, what, f"a mean difference of {error:.2g} of the channels' size")


def _check_streams(subject: Subject, prompts: Prompts) -> None:
    family = subject.family
    streams: dict[str, Tensor] = {}

    def listen(norm: Norm) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            at = normed(norm, args[0])
            fixed: Tensor | None = getattr(module, "bias", None)
            wanted = at.stream * at.inverse * gain(subject.model, norm) + (0 if fixed is None else fixed.float())
            _compare(subject, f"{norm.name} computes another norm", output, wanted)
            streams[norm.name] = args[0].float().flatten(0, -2)

        return look

    norms = [family.final_norm]
    for site in family.sites:
        ends = (site.attention_norm, site.attention_post, site.mlp_norm, site.mlp_post)
        norms += [norm for norm in ends if norm is not None]
    with ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(subject.module(norm.name).register_forward_hook(listen(norm)))
        both = torch.cat([prompts.corrupt, prompts.clean])
        recorded, _ = record(subject, prompts, both)
    changes = change(subject, recorded)
    written = (prompts.corrupt.float() - prompts.clean.float()).flatten(0, 1)
    scale = both.float().abs().flatten(0, 1).amax(0)

    def reads(norm: Norm) -> None:
        nonlocal scale
        scale = torch.maximum(scale, streams[norm.name].abs().amax(0))
        one, other = torch.unflatten(streams[norm.name], 0, (2, -1))
        _compare(subject, f"{norm.name} reads more or less than the graph says", one - other, written, scale)

    for layer, site in enumerate(family.sites):
        reads(site.attention_norm)
        heads = head_outputs(subject, layer, changes.heads[layer], changes.attention_step(layer)).sum(0)
        if family.graph.parallel:
            reads(site.mlp_norm)
        written = written + heads
        if not family.graph.parallel:
            reads(site.mlp_norm)
        written = written + changes.mlps[layer].flatten(0, 1)
    reads(family.final_norm)


def _check_slices(subject: Subject, prompts: Prompts) -> None:
    family = subject.family
    of_heads, of_neurons = (
        [make(subject, layer) for layer in range(family.graph.layers)] for make in (_heads, _neurons)
    )
    count = 1 + max(len(rows) for rows in of_heads) + max(len(rows) for rows in of_neurons)
    moved: set[str] = set()
    with ExitStack() as hooks:
        for site, heads, neurons in zip(family.sites, of_heads, of_neurons, strict=True):
            rows = {1 + index: zeroed for index, zeroed in enumerate((*heads, *neurons))}
            for name in {owned.module for zeroed in rows.values() for owned in zeroed.slices}:
                hooks.enter_context(subject.module(name).register_forward_pre_hook(_clean_alone))
                hooks.enter_context(subject.module(name).register_forward_hook(_zeroing(subject, name, rows, count)))
            # every row is watched at both, so that a head's rows that feed the MLP (or a neuron's a head) are seen
            for reader in (site.output, site.down):
                if reader is not None:
                    watch = _watching(subject, reader, rows, moved)
                    hooks.enter_context(subject.module(reader).register_forward_pre_hook(watch))
                    hooks.enter_context(subject.module(reader).register_forward_hook(_for_all(count)))
        run(subject, prompts, prompts.clean.repeat(count, 1, 1))
    missing = {zeroed.moves for rows in (*of_heads, *of_neurons) for zeroed in rows} - moved - {""}
    if missing:
        raise _refusal(subject, f"zeroing {min(missing)} moves nothing in any layer", "no change")


def _heads(subject: Subject, layer: int) -> list[_Zeroed]:
    """Rows for the heads of a layer. The first position attends to itself alone, whatever its query and key."""
    family = subject.family
    graph = family.graph
    queries = [owned_slices(family, f"a{layer}.h{head}") for head in range(graph.heads)]
    first = tuple(query for query, _ in queries)
    found = [_Zeroed(f"the first query of every head of layer {layer}", "", first, (), last=1, silent=_TOKENS)]
    for head, (query, column) in enumerate(queries):
        found.append(_Zeroed(f"a{layer}.h{head}<q>", "queries", (query,), (column,), silent=1))
    for head in range(graph.kv_heads):
        group = tuple(column for _, column in queries[head * graph.group : (head + 1) * graph.group])
        key, value = owned_slices(family, f"a{layer}.k{head}")
        found.append(_Zeroed(f"a{layer}.k{head}<k>", "keys", (key,), group, last=1, silent=1))
        found.append(_Zeroed(f"a{layer}.k{head}<v>", "values", (value,), group, last=1))
    return found


def _neurons(subject: Subject, layer: int) -> list[_Zeroed]:
    """Rows for the first, a middle and the last neuron of a layer; none for a mixture of experts."""
    family = subject.family
    found = []
    for neuron in sorted({0, family.d_ff // 2, family.d_ff - 1}) if family.d_ff else ():
        *rows, column = owned_slices(family, f"m{layer}.n{neuron}")
        found.append(_Zeroed(f"m{layer}.n{neuron}", "neurons", tuple(rows), (column,)))
    return found


def _clean_alone(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give a layer the clean row only: what it makes of the others, which are equal to it, is not asked."""
    return (args[0][:1], *args[1:])


def _for_all(count: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """Let every row have what the clean row got."""
    return lambda _, __, output: output.repeat(count, *[1] * (output.dim() - 1))


def _zeroing(
    subject: Subject, name: str, rows: dict[int, _Zeroed], count: int
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """Give every row the clean output of the layer `name`, less what its zeroed weights make of the input."""
    # as the slices say: 4-bit layers lie [outputs, inputs] even where the family stores them turned
    left, dim = bias(subject.model, name), 1 if subject.family.turned else 0

    def zero(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed = output.repeat(count, *[1] * (output.dim() - 1))
        for row, zeroed in rows.items():
            for owned in zeroed.slices:
                if owned.module == name and owned.dim == dim:
                    span = slice(owned.span.start, owned.span.stop)
                    changed[row, : zeroed.last, span] = left[span]
        return changed

    return zero


def _watching(
    subject: Subject, name: str, rows: dict[int, _Zeroed], moved: set[str]
) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Look at what moved at the input of the layer `name`, then let the clean row go on alone."""

    def watch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        clean = args[0][:1]
        away = (args[0] - clean).abs().float()
        limit = _STILL * float(clean.abs().max())
        for row, zeroed in rows.items():
            elsewhere = away[row].clone()
            for column in zeroed.columns:
                if column.module == name:
                    elsewhere[zeroed.silent :, column.span.start : column.span.stop] = 0
            if float(elsewhere.max()) > limit:
                what = f"zeroing {zeroed.node} moves more than its own inputs of {name}"
                raise _refusal(subject, what, f"a change of {float(elsewhere.max()):.2g}")
            if float(away[row].max()) > 0:
                moved.add(zeroed.moves)
        return (clean.contiguous(), *args[1:])

    return watch


def _check_gradients(subject: Subject, prompts: Prompts) -> None:
    family, graph = subject.family, subject.family.graph
    gradients: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            output.register_hook(lambda gradient: gradients.__setitem__(name, gradient))  # type: ignore[no-untyped-call]

        return hook

    with ExitStack() as hooks:
        for site in family.sites:
            for name in (site.attention_writer, site.mlp_writer):
                hooks.enter_context(subject.module(name).register_forward_hook(listen(name)))
        readers = reader_gradients(subject, prompts, [(0.5, 1.0)])
    for layer, site in enumerate(family.sites):
        for name, row in _writers(subject, site, layer):
            later = readers[graph.real[row].to(readers.device)].sum(0)
            what = f"the readers of {graph.writers[row]} do not add up to its own gradient"
            _compare(subject, what, gradients[name].flatten(0, 1), later, later.abs().amax(0))


def _writers(subject: Subject, site: LayerSites, layer: int) -> tuple[tuple[str, int], tuple[str, int]]:
    graph = subject.family.graph
    return (site.attention_writer, graph.head_rows(layer).start), (site.mlp_writer, graph.mlp_row(layer))
