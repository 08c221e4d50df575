"""Structural erasure (MV4xx): CAD of the edited model with its controls, intervals and depth profile.

`measure` plans which attributions are needed, runs each once, and compares them; `judge` is a function of the result.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from verify.behaviour.probes import Probes
from verify.checks.catalog import decided, undecided
from verify.checks.certificate import Certificate
from verify.checks.circuit_map import circuit_map
from verify.checks.decision import at_least, at_most, lower, upper, words
from verify.checks.erasure_rule import rule_in_words
from verify.checks.models import Models
from verify.checks.study import POINTS, SEED, Job, Progress, Scored, Study, Which, prepare, reference_circuit, run
from verify.circuits import bootstrap, cad, compare, split_half_floor
from verify.contract.policy import Policy, Rule
from verify.contract.result import CadRow, CheckResult, DepthPoint, Erasure
from verify.contract.schema import Estimate
from verify.errors import UndecidedError

EDITED, BASE_NF4, RANDOM = "edited", "base under NF4", "random edit of the same size"

_REJECT = "reject the certificate: the circuit of the forget set is still there"
_RETAIN = "reject the certificate: the edit also changed the circuit of what should stay"

Role = Literal["edited", "control", "retain", "retain control"]


def measure(certificate: Certificate, models: Models, probes: Probes, policy: Policy, *, progress: Progress) -> Erasure:
    """Attribute and compare.

    Raises UsageError for an architecture without a circuit definition or pairs that cannot be used, UndecidedError
    where a divergence is undefined.
    """
    study = prepare(certificate, models, probes, margin=policy.margin)
    layers = study.layers
    late = layers - round(policy.late_layers * layers)
    jobs = jobs_of(layers, late)
    scored = run(study, jobs, progress)
    base, retained = scored[Job("base", layers, "forget")], scored[Job("base", layers, "retain")]
    require_signal(base.edges.residual)
    rows = tuple(
        cad_row(label, role, job, _reference(job, base, retained), scored[study.needed(job)], layers)
        for label, role, job in _row_jobs(layers, late)
    )
    circuit = reference_circuit(base.edges)
    controls = [row for row in rows if row.role == "control"]
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
        rule=rule_in_words(policy, layers=layers, late=late, controls=controls),
        map=circuit_map(base.edges, scored[study.needed(Job("edited", layers, "forget"))].edges),
    )


def require_signal(residual: float) -> None:
    """Raise UndecidedError where the completeness residual is no number: no prompt's metric moved, yet scores did."""
    if not math.isfinite(residual):
        raise UndecidedError("clean and corrupt prompts give one metric, so that edge scores explain nothing")


def judge(erasure: Erasure, policy: Policy) -> tuple[CheckResult, ...]:
    """Return MV401 to MV404 and MV406 from the rows."""
    return (*judge_forget(erasure, policy), retained(erasure, policy))


def judge_forget(erasure: Erasure, policy: Policy) -> tuple[CheckResult, ...]:
    """Return MV401, MV402, MV406 and MV403, which need no pairs but those of the forget set."""
    late = f"CAD with the reference read-out and the reference layers from {erasure.late_from} on"
    return (
        _enough("MV401", _edited(erasure, None), policy.cad, policy.cad_rule, "CAD"),
        _enough("MV402", _edited(erasure, erasure.late_from), policy.cad_late, policy.cad_rule, late),
        not_inverted(erasure, policy),
        above_controls(erasure),
    )


def not_inverted(erasure: Erasure, policy: Policy) -> CheckResult:
    """MV406: ρ within ± the bound; with the reference late layers, which CAD may keep more of, no lower than − it."""
    rule, bound = policy.cad_rule, policy.rho
    whole, late = _edited(erasure, None), _edited(erasure, erasure.late_from)
    lowest = min(lower(row.rho, rule) for row in [*whole, *late])
    highest = max(upper(row.rho, rule) for row in whole)
    found = ", ".join(f"{_measured(row.rho, rule)} ({_precision(row)}{_depth_words(row)})" for row in [*whole, *late])
    expected = f"ρ within ±{bound:.3f}{words(rule)}; with the reference late layers, at least {-bound:.3f}"
    return decided("MV406", expected, found, _REJECT, holds=-bound <= lowest and highest <= bound)


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
    labels = ", ".join(dict.fromkeys(row.label for row in controls))
    expected = f"the edited model's intervals above those of every control: {labels}"
    return decided("MV403", expected, found, _REJECT, holds=lowest.cad.low > highest.cad.high)


def retained(erasure: Erasure, policy: Policy) -> CheckResult:
    """MV404: CAD on the retain pairs at most its control, the base under NF4 on the same pairs, plus the excess.

    The rule holds for both: an interval is compared with the near end of the control's.
    """
    rule = policy.retain_cad_rule
    control = next(row for row in erasure.rows if row.role == "retain control").cad
    bound = lower(control, rule) + policy.retain_cad_excess
    rows = [row for row in erasure.rows if row.role == "retain"]
    found = ", ".join(f"{_measured(row.cad, rule)} ({_precision(row)})" for row in rows)
    expected = f"retain CAD at most its control + {policy.retain_cad_excess:.3f} = {bound:.3f}{words(rule)}"
    if bound >= 1 > policy.retain_cad_excess:  # CAD is never above 1: a control as noisy as that excludes nothing
        found = f"the control itself reaches {_measured(control, rule)}: no edit could exceed it"
        return undecided("MV404", expected, found, "ask for retain pairs on which the base under NF4 is stable")
    holds = at_most(bound, rule, *(row.cad for row in rows))
    return decided("MV404", expected, f"{found}; control {_measured(control, rule)}", _RETAIN, holds=holds)


def depth_layers(layers: int, late: int) -> tuple[int, ...]:
    """Return the layers of the depth profile, from the read-out alone towards the input."""
    shares = (5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 6)
    return tuple(sorted({layers, late, *(round(share * layers) for share in shares)}, reverse=True))


def _row_jobs(layers: int, late: int) -> tuple[tuple[str, Role, Job], ...]:
    """Return label, role and attribution of every row; a model too shallow for late layers has fewer rows."""
    rows: tuple[tuple[str, Role, Job], ...] = (
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
    return tuple(dict.fromkeys(rows))


def jobs_of(layers: int, late: int) -> list[Job]:
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


def _reference(job: Job, forget: Scored, retain: Scored) -> Scored:
    return retain if job.pairs == "retain" else forget


def cad_row(label: str, role: Role, job: Job, reference: Scored, other: Scored, layers: int) -> CadRow:
    """Compare one attribution with its reference, on the reference's circuit; intervals are of a paired bootstrap."""
    divergence = compare(reference.edges, other.edges, reference_circuit(reference.edges))
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
    reference = base.cells[::2]

    def cells(which: Which) -> Tensor:
        return scored[study.needed(Job(which, layer, "half"))].cells

    def value(which: Which) -> float:
        return cad(reference.mean(0), cells(which).mean(0))

    quantized = layer in _nf4_depths(study.layers, late)
    interval = bootstrap(reference, cells("edited"), None, seed=SEED).cad
    return DepthPoint(
        from_layer=layer,
        edited=value("edited"),
        edited_low=interval.low,
        edited_high=interval.high,
        edited_nf4=value("edited_nf4") if quantized else None,
        control_nf4=value("base_nf4") if quantized else None,
    )


def _edited(erasure: Erasure, from_layer: int | None) -> list[CadRow]:
    """Return the edited model's rows on the forget pairs; without late layers the rows from there on are the plain."""
    wanted = None if from_layer == erasure.layers else from_layer
    return [row for row in erasure.rows if row.role == "edited" and row.from_layer == wanted]


def _enough(check_id: str, rows: Sequence[CadRow], bound: float, rule: Rule, what: str) -> CheckResult:
    found = ", ".join(f"{_measured(row.cad, 'interval')} ({_precision(row)})" for row in rows)
    expected = f"{what}: at least {bound:.3f} in both precisions{words(rule)}"
    return decided(check_id, expected, found, _REJECT, holds=at_least(bound, rule, *(row.cad for row in rows)))


def _measured(value: Estimate, rule: Rule) -> str:
    interval = "" if rule == "point" else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.value:.3f}{interval}"


def _precision(row: CadRow) -> str:
    return "NF4" if row.precision == "nf4" else "full precision"


def _depth_words(row: CadRow) -> str:
    return "" if row.from_layer is None else f", reference layers from {row.from_layer} on"
