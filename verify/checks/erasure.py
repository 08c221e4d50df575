"""Structural erasure (MV4xx): CAD of the edited model with its controls, intervals and depth profile.

`measure` plans which attributions are needed, runs each once, and compares them; `judge` is a function of the result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn

from verify.behaviour.loading import Language
from verify.behaviour.probes import Probes, token_pairs
from verify.checks.catalog import decided, passed, undecided
from verify.checks.evidence import Certificate
from verify.checks.models import Models, edited_layers, random_edit
from verify.circuits import (
    Circuit,
    EdgeScores,
    Family,
    Pair,
    attribute,
    bootstrap,
    cad,
    compare,
    describe,
    split_half_floor,
    swapped,
    top_edges,
)
from verify.contract.policy import Policy
from verify.contract.result import CadRow, CheckResult, DepthPoint, Erasure
from verify.contract.schema import Estimate

REFERENCE_SHARE = 0.05
"""Share of the base's edges, by |score|, that CAD is read on (DESIGN section 5)."""

POINTS = 5
SEED = 0
EDITED, BASE_NF4, RANDOM = "edited", "base under NF4", "random edit of the same size"

_REJECT = "reject the certificate: the circuit of the forget set is still there"
_RETAIN = "reject the certificate: the edit also changed the circuit of what should stay"

Which = Literal["base", "base_nf4", "edited", "edited_nf4", "random"]
Set = Literal["forget", "half", "retain"]
Progress = Callable[[int, int], None]
"""Called with the pairs attributed so far, and of how many."""


class Job(NamedTuple):
    """One attribution: a model, the first layer lent by the base (the number of layers: none), and the pairs.

    "half" is every second forget pair: the depth profile is read on it, at half the cost.
    """

    model: Which
    from_layer: int
    pairs: Set


@dataclass(frozen=True, eq=False)
class Scored:
    """One attribution: mean scores, and the circuit's cells for each pair, float32 [pairs, cells, 1]."""

    edges: EdgeScores
    cells: Tensor


@dataclass(frozen=True, eq=False)
class Study:
    """What is compared: the models, their anatomy, the layers where each differs from the base, and the pairs."""

    models: Mapping[Which, Language]
    family: Family
    differs: Mapping[Which, frozenset[int]]
    pairs: Mapping[Set, Sequence[Pair]]

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.family.graph.layers

    def needed(self, job: Job) -> Job:
        """Return the job that gives the same scores with the least swapping.

        Layers in which a model equals the base make no difference, and its read-out is always the base's: neither
        the mask nor NF4 touches it.
        """
        left = [layer for layer in self.differs[job.model] if layer < job.from_layer]
        if not left:
            return Job("base", self.layers, job.pairs)
        whole = len(left) == len(self.differs[job.model])
        return job._replace(from_layer=self.layers if whole else max(left) + 1)


def pair_counts(probes: Probes) -> tuple[int, int]:
    """Return the number of distinct forget and retain pairs."""
    forget = {(pair.clean, pair.corrupt) for pair in probes.pairs if pair.set == "forget"}
    retain = {(pair.clean, pair.corrupt) for pair in probes.pairs if pair.set == "retain"}
    return len(forget), len(retain)


def enough_pairs(probes: Probes, policy: Policy) -> CheckResult:
    """MV405: enough forget pairs to tell, and at least two retain pairs for their control."""
    forget, retain = pair_counts(probes)
    expected = f"at least {policy.minimum_pairs} distinct forget pairs and 2 retain pairs"
    found = f"{forget} and {retain}"
    if forget < policy.minimum_pairs or retain < 2:
        return undecided("MV405", expected, found, "ask the producer for a certificate with more contrast pairs")
    return passed("MV405", expected, found)


def measure(certificate: Certificate, models: Models, probes: Probes, policy: Policy, *, progress: Progress) -> Erasure:
    """Attribute and compare.

    Raises UsageError for an architecture without a circuit definition or pairs that cannot be used, UndecidedError
    where a divergence is undefined.
    """
    study = _prepare(certificate, models, probes, policy)
    layers = study.layers
    late = layers - round(policy.late_layers * layers)
    jobs = _jobs(layers, late)
    scored = _run(study, jobs, progress)
    base, retained = scored[Job("base", layers, "forget")], scored[Job("base", layers, "retain")]
    rows = tuple(
        _row(label, role, job, _reference(job, base, retained), scored[study.needed(job)], layers)
        for label, role, job in _row_jobs(layers, late)
    )
    circuit = _circuit(base.edges)
    return Erasure(
        pairs=len(study.pairs["forget"]),
        retain_pairs=len(study.pairs["retain"]),
        edges=int(base.edges.real.sum()),
        circuit_edges=circuit.size,
        points=POINTS,
        split_half_floor=split_half_floor(base.cells, None, SEED),
        completeness_residual=base.edges.residual,
        layers=layers,
        late_from=late,
        rows=rows,
        depth=tuple(_depth(study, scored, base, layer, late) for layer in depth_layers(layers, late)),
    )


def judge(erasure: Erasure, policy: Policy) -> tuple[CheckResult, ...]:
    """Return MV401 to MV404 from the rows."""
    return (
        _at_least("MV401", _edited(erasure, None), policy.cad, "CAD"),
        _at_least("MV402", _edited(erasure, erasure.late_from), policy.cad_late, f"CAD, reference layers from {erasure.late_from} on"),
        above_controls(erasure),
        retained(erasure, policy),
    )  # fmt: skip


def above_controls(erasure: Erasure) -> CheckResult:
    """MV403: every interval of the edited model lies above every control's.

    The late rows are held against the late control and against the controls without reference layers, which are the
    stricter ones.
    """
    edited = [*_edited(erasure, None), *_edited(erasure, erasure.late_from)]
    controls = [row for row in erasure.rows if row.role == "control"]
    lowest = min(edited, key=lambda row: row.cad.low)
    highest = max(controls, key=lambda row: row.cad.high)
    found = (
        f"lowest {lowest.cad.low:.3f} ({_precision(lowest)}{_depth_words(lowest)}), "
        f"highest control {highest.cad.high:.3f} ({highest.label})"
    )
    expected = "the edited model's intervals above those of the base under NF4 and of a random edit"
    return decided("MV403", expected, found, _REJECT, holds=lowest.cad.low > highest.cad.high)


def retained(erasure: Erasure, policy: Policy) -> CheckResult:
    """MV404: CAD on the retain pairs at most its control, the base under NF4 on the same pairs, plus the excess."""
    control = next(row for row in erasure.rows if row.role == "retain control").cad.value
    bound = control + policy.retain_cad_excess
    rows = [row for row in erasure.rows if row.role == "retain"]
    found = ", ".join(f"{row.cad.value:.3f} ({_precision(row)})" for row in rows) + f"; control {control:.3f}"
    expected = f"retain CAD at most its control + {policy.retain_cad_excess:.3f} = {bound:.3f}"
    return decided("MV404", expected, found, _RETAIN, holds=max(row.cad.value for row in rows) <= bound)


def depth_layers(layers: int, late: int) -> tuple[int, ...]:
    """Return the layers of the depth profile, from the read-out alone towards the input."""
    shares = (5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 6)
    return tuple(sorted({layers, late, *(round(share * layers) for share in shares)}, reverse=True))


def _prepare(certificate: Certificate, models: Models, probes: Probes, policy: Policy) -> Study:
    family = describe(models.base.model)
    layers = family.graph.layers
    every = frozenset(range(layers))
    edited = edited_layers(certificate.ledger.entries, family.layers, layers)
    forget = token_pairs(models.base.tokenizer, probes, "forget")
    return Study(
        models={
            "base": models.base,
            "base_nf4": models.base_nf4,
            "edited": models.edited,
            "edited_nf4": models.edited_nf4,
            "random": random_edit(certificate, models.base, margin=policy.margin, seed=SEED),
        },
        family=family,
        differs={"base": frozenset(), "base_nf4": every, "edited": edited, "edited_nf4": every, "random": edited},
        pairs={
            "forget": forget,
            "half": forget[::2],
            "retain": token_pairs(models.base.tokenizer, probes, "retain"),
        },
    )


Role = Literal["edited", "control", "retain", "retain control"]


def _row_jobs(layers: int, late: int) -> tuple[tuple[str, Role, Job], ...]:
    return (
        (EDITED, "edited", Job("edited", layers, "forget")),
        (EDITED, "edited", Job("edited_nf4", layers, "forget")),
        (EDITED, "edited", Job("edited", late, "forget")),
        (EDITED, "edited", Job("edited_nf4", late, "forget")),
        (BASE_NF4, "control", Job("base_nf4", layers, "forget")),
        (BASE_NF4, "control", Job("base_nf4", late, "forget")),
        (RANDOM, "control", Job("random", layers, "forget")),
        (EDITED, "retain", Job("edited", layers, "retain")),
        (EDITED, "retain", Job("edited_nf4", layers, "retain")),
        (BASE_NF4, "retain control", Job("base_nf4", layers, "retain")),
    )


def _jobs(layers: int, late: int) -> list[Job]:
    """Return every attribution that the rows and the profile use, references first."""
    jobs = [Job("base", layers, "forget"), Job("base", layers, "retain")]
    jobs += [job for _, _, job in _row_jobs(layers, late)]
    for layer in depth_layers(layers, late):
        jobs.append(Job("edited", layer, "half"))
        if layer in _nf4_depths(layers, late):
            jobs += [Job("edited_nf4", layer, "half"), Job("base_nf4", layer, "half")]
    return jobs


def _nf4_depths(layers: int, late: int) -> set[int]:
    return {layers, late, round(layers / 2)}


def _run(study: Study, jobs: Sequence[Job], progress: Progress) -> dict[Job, Scored]:
    """Run every distinct job once; those on half the pairs are cut from the whole where the whole is there."""
    needed = list(dict.fromkeys(study.needed(job) for job in jobs))
    whole = set(needed)
    to_run = [job for job in needed if job.pairs != "half" or job._replace(pairs="forget") not in whole]
    total = sum(len(study.pairs[job.pairs]) for job in to_run)
    scored: dict[Job, Scored] = {}
    done = 0
    circuits: dict[Set, Circuit] = {}
    for job in to_run:
        start = done
        edges = _attribute(study, job, lambda count, _, start=start: progress(start + count, total))  # type: ignore[misc]
        done += len(study.pairs[job.pairs])
        if job.model == "base":
            circuits[job.pairs] = _circuit(edges)
        scored[job] = _cut(edges, circuits["forget" if job.pairs == "half" else job.pairs])
    for job in needed:
        if job not in scored:
            full = scored[job._replace(pairs="forget")]
            scored[job] = replace(full, cells=full.cells[::2])
    return scored


def _attribute(study: Study, job: Job, progress: Progress) -> EdgeScores:
    model: nn.Module = study.models[job.model].model
    pairs = study.pairs[job.pairs]
    if job.from_layer == study.layers:
        return attribute(model, pairs, points=POINTS, per_example=True, progress=progress)
    with swapped(model, study.models["base"].model, job.from_layer) as lent:
        return attribute(lent, pairs, points=POINTS, per_example=True, progress=progress)


def _circuit(edges: EdgeScores) -> Circuit:
    return top_edges(edges, int(REFERENCE_SHARE * int(edges.real.sum())))


def _cut(edges: EdgeScores, circuit: Circuit) -> Scored:
    """Keep only the circuit's cells of each pair's scores: all edges of all pairs would not fit in memory."""
    assert edges.per_example is not None
    cells = edges.per_example[:, circuit.edges][:, :, None].clone()
    return Scored(replace(edges, per_example=None), cells)


def _reference(job: Job, forget: Scored, retain: Scored) -> Scored:
    return retain if job.pairs == "retain" else forget


def _row(label: str, role: Role, job: Job, reference: Scored, other: Scored, layers: int) -> CadRow:
    divergence = compare(reference.edges, other.edges, _circuit(reference.edges))
    intervals = bootstrap(reference.cells, other.cells, None, seed=SEED)
    count = len(reference.cells)
    return CadRow(
        label=label,
        role=role,
        precision="nf4" if job.model.endswith("nf4") else "full",
        from_layer=None if job.from_layer == layers else job.from_layer,
        cad=Estimate(value=divergence.cad, low=intervals.cad.low, high=intervals.cad.high, n=count),
        rho=Estimate(value=divergence.rho, low=intervals.rho.low, high=intervals.rho.high, n=count),
        mass=divergence.mass,
        relative_l1=divergence.relative_l1,
    )


def _depth(study: Study, scored: Mapping[Job, Scored], base: Scored, layer: int, late: int) -> DepthPoint:
    reference = base.cells[::2].mean(0)

    def value(which: Which) -> float:
        return cad(reference, scored[study.needed(Job(which, layer, "half"))].cells.mean(0))

    quantized = layer in _nf4_depths(study.layers, late)
    return DepthPoint(
        from_layer=layer,
        edited=value("edited"),
        edited_nf4=value("edited_nf4") if quantized else None,
        control_nf4=value("base_nf4") if quantized else None,
    )


def _edited(erasure: Erasure, from_layer: int | None) -> list[CadRow]:
    """Return the edited model's rows on the forget pairs; without late layers the rows from there on are the plain."""
    wanted = None if from_layer == erasure.layers else from_layer
    return [row for row in erasure.rows if row.role == "edited" and row.from_layer == wanted]


def _at_least(check_id: str, rows: Sequence[CadRow], bound: float, what: str) -> CheckResult:
    found = ", ".join(
        f"{row.cad.value:.3f} [{row.cad.low:.3f}, {row.cad.high:.3f}] ({_precision(row)})" for row in rows
    )
    least = min(row.cad.value for row in rows)
    return decided(check_id, f"{what}: at least {bound:.3f} in both precisions", found, _REJECT, holds=least >= bound)


def _precision(row: CadRow) -> str:
    return "NF4" if row.precision == "nf4" else "full precision"


def _depth_words(row: CadRow) -> str:
    return "" if row.from_layer is None else f", reference layers from {row.from_layer} on"
