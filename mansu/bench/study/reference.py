"""What every edit of one suite and seed is measured against: held-out probes, and the base's answers and circuits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mansu.bench.study.training import Opened
from mansu.data.probes import held_out_probes
from mansu.progress import Steps, counting
from verify.behaviour.axes import Answers, Asked, asked, measure
from verify.behaviour.loading import Language, nf4_copy
from verify.behaviour.probes import Probes, token_pairs
from verify.checks.erasure import BASE_NF4, cad_row, require_signal
from verify.checks.study import Job, Scored, Set, Study, Which, reference_circuit, run
from verify.circuits import Circuit, describe
from verify.contract.policy import Policy
from verify.contract.result import CadRow


@dataclass(frozen=True, eq=False)
class Reference:
    """The base's side of every measurement.

    `late` is the first of the late layers, `controls` CAD of the base under NF4: plain, with its late layers, and on
    the retain pairs.
    """

    opened: Opened
    policy: Policy
    probes: Probes
    asked: Asked
    base: Answers
    base_nf4: Answers
    scored: Mapping[Set, Scored]
    circuits: Mapping[Set, Circuit]
    layers: int
    late: int
    controls: tuple[CadRow, ...]


def reference(opened: Opened, *, steps: Steps) -> Reference:
    """Ask and attribute the base, in full precision and after NF4.

    Raises UsageError for an architecture without a circuit definition, UndecidedError where scores explain nothing.
    """
    policy, config, language = Policy(), opened.config, opened.language
    probes = held_out_probes(
        opened.request,
        language.tokenizer,
        forget_pairs=config.forget_pairs,
        retain_pairs=config.retain_pairs,
        seed=config.seed,
    )
    deployed = nf4_copy(language, opened.base.stored)
    with steps.step("Asking the base", 2 * (len(probes.choices) + len(probes.texts))) as advance:
        base, base_nf4 = (measure(each, probes, progress=advance) for each in (language, deployed))
    layers = describe(language.model).graph.layers
    late = layers - round(policy.late_layers * layers)
    wanted: list[tuple[Literal["control", "retain control"], Job]] = [
        ("control", Job("base_nf4", layers, "forget")),
        ("control", Job("base_nf4", late, "forget")),
        ("retain control", Job("base_nf4", layers, "retain")),
    ]
    own: dict[Set, Job] = {"forget": Job("base", layers, "forget"), "retain": Job("base", layers, "retain")}
    study = study_of(language, {"base_nf4": deployed}, probes)
    jobs = [*own.values(), *(job for _, job in wanted)]
    with steps.step("Attributing the base", sum(len(study.pairs[job.pairs]) for job in jobs)) as advance:
        found = run(study, jobs, counting(advance))
    scored = {pairs: found[job] for pairs, job in own.items()}
    require_signal(scored["forget"].edges.residual)
    circuits = {pairs: reference_circuit(each.edges) for pairs, each in scored.items()}
    controls = tuple(
        cad_row(BASE_NF4, role, job, scored["retain" if job.pairs == "retain" else "forget"], found[job], layers)
        for role, job in wanted
    )
    ids = asked(language, probes)
    return Reference(opened, policy, probes, ids, base, base_nf4, scored, circuits, layers, late, controls)


def study_of(base: Language, others: Mapping[Which, Language], probes: Probes) -> Study:
    """Return the study of these models: any layer of them may differ from the base's."""
    family = describe(base.model)
    every = frozenset(range(family.graph.layers))
    return Study(
        models={"base": base, **others},
        family=family,
        differs={"base": frozenset(), **dict.fromkeys(others, every)},
        pairs={
            "forget": token_pairs(base.tokenizer, probes, "forget"),
            "half": (),
            "retain": token_pairs(base.tokenizer, probes, "retain"),
        },
    )
