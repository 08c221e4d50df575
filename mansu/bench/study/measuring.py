"""The four axes of one exported edit, by the verifier's own measures on the files loaded anew."""

from pathlib import Path
from typing import Literal

from mansu.base import open_base
from mansu.bench.study.document import AxesRecord, ErasureRecord
from mansu.bench.study.reference import Reference, study_of
from mansu.progress import Steps, counting
from verify.behaviour.axes import measure
from verify.behaviour.loading import Language, nf4_copy
from verify.checks.behaviour import judge
from verify.checks.erasure import EDITED, cad_row
from verify.checks.measured import Measured, chance, rows_of
from verify.checks.study import Job, run


def load_edited(folder: Path, reference: Reference) -> tuple[Language, Language]:
    """Load an exported model onto the base's device, in full precision and as NF4 deploys it."""
    edited = open_base(folder).language(reference.opened.language.device)
    return edited, nf4_copy(edited, reference.opened.base.stored)


def axes(edited: Language, deployed: Language, reference: Reference, *, steps: Steps) -> AxesRecord:
    """Ask the edited model what the base was asked; rows and their rules are those of `mansu-verify`."""
    probes = reference.probes
    with steps.step("Asking the edited model", 2 * (len(probes.choices) + len(probes.texts))) as advance:
        full, nf4 = (measure(each, probes, progress=advance) for each in (edited, deployed))
    measured = Measured(probes, reference.asked, reference.base, reference.base_nf4, full, nf4)
    _, rows = judge(measured, reference.policy)
    by_guessing = {row: chance(measured, "forgetting", row) for row in rows_of(probes, "forgetting")}
    return AxesRecord(rows=rows, chance=by_guessing)


def erasure(edited: Language, deployed: Language, reference: Reference, *, steps: Steps) -> ErasureRecord:
    """Attribute the edited model on the base's pairs and compare. Raises UndecidedError where CAD is undefined."""
    layers, late = reference.layers, reference.late
    wanted: list[tuple[Literal["edited", "retain"], Job]] = [
        ("edited", Job("edited", layers, "forget")),
        ("edited", Job("edited_nf4", layers, "forget")),
        ("edited", Job("edited", late, "forget")),
        ("edited", Job("edited_nf4", late, "forget")),
        ("retain", Job("edited", layers, "retain")),
        ("retain", Job("edited_nf4", layers, "retain")),
    ]
    study = study_of(reference.opened.language, {"edited": edited, "edited_nf4": deployed}, reference.probes)
    jobs = [job for _, job in wanted]
    with steps.step("Attributing the edited model", sum(len(study.pairs[job.pairs]) for job in jobs)) as advance:
        found = run(study, jobs, counting(advance), known=reference.circuits)
    rows = tuple(
        cad_row(EDITED, role, job, reference.scored["retain" if role == "retain" else "forget"], found[job], layers)
        for role, job in wanted
    )
    return ErasureRecord(
        pairs=len(study.pairs["forget"]),
        retain_pairs=len(study.pairs["retain"]),
        layers=layers,
        late_from=late,
        rows=(*rows, *reference.controls),
    )
