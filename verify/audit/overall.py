"""One call: two folders, and perhaps sets to measure on → the whole audit, its one sentence first."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verify.audit.compare import Compared, Sides, compare
from verify.audit.deployment import Deployment, deployment
from verify.audit.sentence import headline
from verify.audit.tally import EDGES, MEDIAN_ERROR, Tally, median
from verify.audit.weights import folder_of, is_adapter, open_weights, require_fit, small_files
from verify.contract.audit import (
    AdapterAudit,
    Audit,
    BehaviourRow,
    DeploymentAudit,
    ErasureAudit,
    Survival,
    TensorAudit,
    Total,
)
from verify.contract.result import Histogram
from verify.errors import ArtefactError, MansuError, UndecidedError, UsageError

if TYPE_CHECKING:
    from verify.audit.lora import Adapter
    from verify.behaviour.probes import Probes

Progress = Callable[[str, int, int], None]
"""Called with a step's title, and how far it is of how much."""

_INTERNAL = frozenset({"MV302"})
"""Refusals that blame this program, not what it was given."""


@dataclass(frozen=True, slots=True)
class Sets:
    """What to measure on: a forget set, a retain set, or a folder of probes; nothing where all are None."""

    forget: Path | None = None
    retain: Path | None = None
    probes: Path | None = None

    def read(self) -> "Probes | None":
        """Read what was given; UsageError ME294 where it cannot be used."""
        if self.probes is None and self.forget is None and self.retain is None:
            return None
        from verify.audit.questions import read_probes, read_sets  # noqa: PLC0415  (loads torch)

        return read_sets(self.forget, self.retain) if self.probes is None else read_probes(self.probes)


def audit(base: Path, edited: Path, sets: Sets | None = None, *, progress: Progress) -> Audit:
    """Compare two models, or a model and an adapter over it, and measure both where sets are given.

    Raises UsageError ME290 (a folder), ME291 (the pair), ME292 (not finite), ME293 (adapter), ME294 (sets), ME295
    (another quantization), and whatever `verify.audit.behaviour` raises, as errors of usage too: no verdict is given.
    """
    try:
        return _audit(base, edited, sets or Sets(), progress)
    except ArtefactError as error:
        if error.id in _INTERNAL:
            raise MansuError(error.message, expected=error.expected, found=error.found, remedy=error.remedy) from error
        error_id = "ME294" if error.id in {"MV301", "MV304", "MV305", "MV306"} else "ME290"
        raise UsageError(
            f"{error.message} ({error.id})",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy or "give model folders as save_pretrained writes them",
            error_id=error_id,
        ) from error


def _audit(base: Path, edited: Path, sets: Sets, progress: Progress) -> Audit:
    probes = sets.read()  # before minutes of work
    folders = folder_of(base, "the base"), folder_of(edited, "the edited model")
    if is_adapter(folders[0]):
        raise UsageError(
            "the base is an adapter", expected="a whole model", remedy="name the base first", error_id="ME290"
        )
    adapted = is_adapter(folders[1])
    files = small_files(folders[0]), ({} if adapted else small_files(folders[1]))
    with ExitStack() as stack:
        weights = stack.enter_context(open_weights(folders[0]))
        deployed = deployment(*files, tensors=len(weights.tensors))
        adapter: Adapter | None = None
        if adapted:
            from verify.audit.lora import open_adapter  # noqa: PLC0415  (loads torch)

            turned = frozenset(name for name, transposed in deployed.quantized.items() if transposed)
            adapter = stack.enter_context(open_adapter(folders[1], weights, turned))
            sides = Sides(weights, adapter)
        else:
            other = stack.enter_context(open_weights(folders[1]))
            require_fit(weights, other, deployed.ignored)
            sides = Sides(weights, other)
        rows, total = _compared(sides, deployed, progress)
        asked = _Asked() if probes is None else _ask(sides, files, deployed, probes, adapted=adapted, progress=progress)
    return Audit(
        headline=headline(total, asked.rows),
        base=folders[0].resolve().name,
        edited=folders[1].resolve().name,
        adapter=None if adapter is None else _adapter(adapter),
        deployment=DeploymentAudit(
            architecture=deployed.architecture,
            block_size=deployed.block_size,
            cast_base=deployed.named[0] or "none",
            cast_edited=deployed.named[1] or "none",
            skip_modules=deployed.skip,
            double_quant=deployed.double_quant,
        ),
        total=total,
        tensors=rows,
        behaviour=asked.rows,
        erasure=asked.erasure,
        undecided=asked.undecided,
        notes=(*_notes(deployed, total), *asked.notes),
    )


def _compared(sides: Sides, deployed: Deployment, progress: Progress) -> tuple[tuple[TensorAudit, ...], Total]:
    """Return every tensor's row, and their total. Of fine histograms two are kept, however many tensors there are."""
    values = sides.base.parameters()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Comparing the weights", done, values)

    quantized, others = Tally(), Tally()
    rows = []
    for found in compare(sides, deployed, progress=advance):
        (quantized if found.quantized else others).add(found.tally)
        rows.append(_tensor(found))
    return tuple(rows), _total(rows, quantized, others)


def _tensor(found: Compared) -> TensorAudit:
    tally = found.tally
    changed, count = tally.count("changed"), found.view.count
    return TensorAudit(
        name=found.name,
        dtype=found.view.dtype,
        shape=found.view.shape,
        parameters=count,
        changed=changed,
        changed_share=changed / count if count else 0.0,
        norm=math.sqrt(tally.total("update")),
        median_update=median(tally.sizes),
        nf4=_survival(tally) if found.quantized else None,
    )


def _survival(tally: Tally) -> Survival:
    changed, update = tally.count("changed"), tally.total("update")
    middle = median(tally.ratios)
    return Survival(
        bin_over_update=None if middle is None else 2 / middle,
        below_half_bin=tally.count("below_half_bin"),
        whole_bin=tally.count("whole_bin"),
        crossed=tally.count("crossed"),
        identical=tally.count("identical"),
        collateral=tally.count("collateral"),
        undone=1 - tally.count("crossed") / changed if changed else None,
        energy=math.sqrt(tally.total("nf4") / update) if update > 0 else None,
        realised=tally.total("dot") / update if update > 0 else None,
        half_bins=Histogram(edges=(0.0, *EDGES), counts=tally.histogram()),
    )


def _total(rows: Sequence[TensorAudit], quantized: Tally, others: Tally) -> Total:
    apart = [row for row in rows if row.nf4 is None]
    over = [row.nf4.bin_over_update for row in rows if row.nf4 is not None and row.nf4.bin_over_update is not None]
    parameters, changed = (sum(getattr(row, name) for row in rows) for name in ("parameters", "changed"))
    squares = [tally.total("update") for tally in (quantized, others)]
    other_parameters = sum(row.parameters for row in apart)
    return Total(
        parameters=parameters,
        changed=changed,
        changed_share=changed / parameters if parameters else 0.0,
        norm=math.sqrt(sum(squares)),
        quantized_tensors=len(rows) - len(apart),
        quantized_parameters=parameters - other_parameters,
        quantized_changed=quantized.count("changed"),
        quantized_norm=math.sqrt(squares[0]),
        median_update=median(quantized.sizes + others.sizes),
        tensor_range=(min(over), max(over)) if over else None,
        nf4=_survival(quantized),
        other_tensors=len(apart),
        other_changed_tensors=sum(row.changed > 0 for row in apart),
        other_parameters=other_parameters,
        other_changed=others.count("changed"),
        other_norm=math.sqrt(squares[1]),
        median_error=MEDIAN_ERROR,
    )


def _adapter(side: "Adapter") -> AdapterAudit:
    ranks = [layer.rank for layer in side.layers.values()]
    scalings = [float(layer.scaling) for layer in side.layers.values()]
    return AdapterAudit(
        layers=len(side.layers), ranks=(min(ranks), max(ranks)), scalings=(min(scalings), max(scalings))
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the models answered, and what could not be decided."""

    rows: tuple[BehaviourRow, ...] = ()
    erasure: ErasureAudit | None = None
    undecided: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _ask(
    sides: Sides,
    files: tuple[Mapping[str, bytes], Mapping[str, bytes]],
    deployed: Deployment,
    probes: "Probes",
    *,
    adapted: bool,
    progress: Progress,
) -> _Asked:
    from verify.audit.behaviour import erasure, measure  # noqa: PLC0415  (loads transformers)
    from verify.audit.models import Models  # noqa: PLC0415  (as above)
    from verify.audit.questions import usable_pairs  # noqa: PLC0415  (loads torch)

    models = Models(sides, (files[0], files[0] if adapted else files[1]), deployed, progress=progress)
    probes, dropped = usable_pairs(probes, models.tokenizer)
    rows = measure(models, probes, progress=progress)
    undecided = [
        f"{row.row!a}: the base under NF4 answers no better than by chance ({row.base_nf4.value:.3f}, chance "
        f"{row.chance:.3f}), so nothing can be seen to be forgotten"
        for row in rows
        if row.axis == "forgetting" and row.chance is not None and row.base_nf4.low <= row.chance
    ]
    notes = [f"{dropped} pairs were left out: their prompts differ in token length, or not at all"] if dropped else []
    pairs = sum(pair.set == "forget" for pair in probes.pairs)
    found: ErasureAudit | None = None
    if pairs < 2:
        notes.append('CAD was not measured: it needs two forget lines or more with a usable "corrupt" partner')
    else:
        try:
            found = erasure(models, probes, progress=progress)
        except UndecidedError as error:
            undecided.append(f"CAD: {error.message}")
    return _Asked(rows, found, tuple(undecided), tuple(notes))


def _notes(deployed: Deployment, total: Total) -> tuple[str, ...]:
    notes = []
    if deployed.double_quant:
        notes.append(
            "the folder asks for compressed scales (double quantization): codes are the same, dequantized values are "
            "given here for float32 scales"
        )
    if deployed.ignored:
        notes.append("the output head shares the embedding's values and is not counted apart")
    if total.other_changed:
        notes.append(
            f"{total.other_changed:,} changed values lie in {total.other_changed_tensors} tensors that NF4 does not "
            "touch: that part of the update survives"
        )
    return tuple(notes)
