"""The models of an audit asked: forgetting, retention and the PTQ gap row by row, and CAD where there are pairs."""

from verify.audit.models import Models, Progress
from verify.behaviour.axes import asked
from verify.behaviour.probes import Probes, token_pairs
from verify.behaviour.statistics import paired_difference, perplexity, perplexity_rise, proportion
from verify.checks.behaviour import finite_answers
from verify.checks.erasure import BASE_NF4, EDITED, Role, cad_row, require_signal
from verify.checks.measured import Measured, chance, columns, prose_columns, prose_rows, rows_of
from verify.checks.study import SEED, Job, Study, Which, reference_circuit, run
from verify.checks.usable import require_choices, require_fit
from verify.circuits import describe, split_half_floor
from verify.contract.audit import BehaviourRow, ErasureAudit

LATE = 0.25
"""Share of the layers, from the read-out on, that the base lends in the late rows of CAD."""

_MODELS: tuple[Which, ...] = ("base", "base_nf4", "edited", "edited_nf4")


def measure(models: Models, probes: Probes, *, progress: Progress) -> tuple[BehaviourRow, ...]:
    """Ask all four models every question, and take the likelihood of all prose, one model after the other.

    Raises ArtefactError MV301 for questions that this model cannot be asked, MV304 to MV306 for answers that are no
    numbers.
    """
    require_fit(models["base"], probes)
    require_choices(models.tokenizer, probes)
    total = len(_MODELS) * (len(probes.choices) + len(probes.texts))
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Asking the models", done, total)

    ids = asked(models["base"], probes)
    base, base_nf4, edited, edited_nf4 = (finite_answers(models[which], probes, progress=advance) for which in _MODELS)
    measured = Measured(probes, ids, base, base_nf4, edited, edited_nf4)
    rows = [_choice_row(measured, axis, row) for axis in _AXES for row in rows_of(probes, axis)]
    return (*rows, *(_prose_row(measured, row) for row in prose_rows(probes)))


_AXES = ("forgetting", "retention")


def _choice_row(measured: Measured, axis: str, row: str) -> BehaviourRow:
    right = columns(measured, axis, row)
    return BehaviourRow(
        axis=axis,  # type: ignore[arg-type]  # one of _AXES
        row=row,
        unit="accuracy",
        chance=chance(measured, axis, row),
        base=proportion(right.base),
        base_nf4=proportion(right.base_nf4),
        edited=proportion(right.edited),
        edited_nf4=proportion(right.edited_nf4),
        difference=paired_difference(right.edited, right.base),
        difference_nf4=paired_difference(right.edited_nf4, right.base_nf4),
        gap_base=paired_difference(right.base_nf4, right.base),
        gap=paired_difference(right.edited_nf4, right.edited),
    )


def _prose_row(measured: Measured, row: str) -> BehaviourRow:
    tokens, nll = prose_columns(measured, row)
    return BehaviourRow(
        axis="retention",
        row=row,
        unit="perplexity",
        chance=None,
        base=perplexity(nll.base, tokens),
        base_nf4=perplexity(nll.base_nf4, tokens),
        edited=perplexity(nll.edited, tokens),
        edited_nf4=perplexity(nll.edited_nf4, tokens),
        difference=perplexity_rise(nll.edited, nll.base, tokens),
        difference_nf4=perplexity_rise(nll.edited_nf4, nll.base_nf4, tokens),
        gap_base=perplexity_rise(nll.base_nf4, nll.base, tokens),
        gap=perplexity_rise(nll.edited_nf4, nll.edited, tokens),
    )


def erasure(models: Models, probes: Probes, *, progress: Progress) -> ErasureAudit:
    """Attribute the pairs on all four models and compare (CAD), with the base's late layers lent and without.

    The base stays in memory, as it lends its layers, and one of the others at a time beside it.

    Raises UsageError for an architecture without a circuit definition, UndecidedError where a divergence is undefined.
    """
    family = describe(models.keep_base().model)
    layers = family.graph.layers
    every = frozenset(range(layers))
    forget = token_pairs(models.tokenizer, probes, "forget")
    retain = token_pairs(models.tokenizer, probes, "retain")
    study = Study(
        models=models,
        family=family,
        # of any two models, all may differ, the read-out too: only what is really lent may be taken from the base
        differs={"base": frozenset(), **dict.fromkeys(_MODELS[1:], every)},
        pairs={"forget": forget, "half": (), "retain": retain},
    )
    late = layers - round(LATE * layers)
    wanted = _jobs(layers, late, with_retain=len(retain) > 1)
    references = [Job("base", layers, "forget"), *([Job("base", layers, "retain")] if len(retain) > 1 else [])]
    jobs = [*references, *(job for _, _, job in wanted)]
    scored = run(study, jobs, lambda done, total: progress("Attributing the pairs", done, total))
    base = scored[references[0]]
    require_signal(base.edges.residual)
    return ErasureAudit(
        pairs=len(forget),
        retain_pairs=len(retain) if len(retain) > 1 else 0,
        circuit_edges=reference_circuit(base.edges).size,
        edges=int(base.edges.real.sum()),
        layers=layers,
        late_from=late,
        split_half_floor=split_half_floor(base.cells, None, SEED),
        completeness_residual=base.edges.residual,
        rows=tuple(
            cad_row(label, role, job, scored[references[job.pairs == "retain"]], scored[study.needed(job)], layers)
            for label, role, job in wanted
        ),
    )


def _jobs(layers: int, late: int, *, with_retain: bool) -> tuple[tuple[str, Role, Job], ...]:
    """Return label, role and attribution of every row; a model too shallow for late layers has fewer."""
    rows: list[tuple[str, Role, Job]] = [
        (label, role, Job(which, depth, "forget"))
        for depth in dict.fromkeys((layers, late))
        for label, role, which in _COMPARED
    ]
    if with_retain:
        rows += [(EDITED, "retain", Job("edited", layers, "retain"))]
        rows += [(EDITED, "retain", Job("edited_nf4", layers, "retain"))]
        rows += [(BASE_NF4, "retain control", Job("base_nf4", layers, "retain"))]
    return tuple(rows)


_COMPARED: tuple[tuple[str, Role, Which], ...] = (
    (EDITED, "edited", "edited"),
    (EDITED, "edited", "edited_nf4"),
    (BASE_NF4, "control", "base_nf4"),
)
