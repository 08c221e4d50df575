"""`mansu calibrate`: what CAD says on this model of changes that erase nothing, and the rule that follows.

Controls (docs/cad.md): the base under NF4, a fine-tune on the retain set, a random edit, and two models that were
muted in the head and in the last MLP. All are made from the user's own model and sets, and measured on the pairs that a
certificate of them would carry.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mansu
from mansu.base import Base, open_base, open_language
from mansu.calibration.bench import Bench, accuracy, asked, set_up
from mansu.calibration.controls import Edited, Plan, measure_all, open_edited
from mansu.calibration.document import Calibration, Role, Row
from mansu.calibration.training import Recipe
from mansu.config import Config
from mansu.data.probes import held_out_probes
from mansu.progress import Steps
from mansu.request import Request, read_request, require_held_out, require_tokens
from verify.artefact import write_atomic
from verify.checks.erasure import judge_forget
from verify.checks.erasure_rule import defeats, rule_in_words
from verify.checks.study import POINTS
from verify.contract.policy import Policy
from verify.contract.result import CadRow, CheckResult, Erasure
from verify.contract.schema import Estimate, FileDigest
from verify.errors import UsageError


@dataclass(frozen=True, slots=True)
class Job:
    """What to calibrate on, and where to write it; `edited` is a model folder to be judged."""

    model: Path
    forget: Path
    retain: Path
    out: Path
    config: Config = field(default_factory=Config)
    policy: Policy = field(default_factory=Policy)
    edited: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)


def calibrate(job: Job, *, steps: Steps) -> Calibration:
    """Make and measure every control, write the JSON whole or not at all, and return it.

    Raises `UsageError`: ME270 for the output, before any work; ME201 to ME204, ME213 and ME214 for the sets; ME271 for
    too few pairs; ME210 and ME211 for the model; ME241 for an edited model of another shape. `UndecidedError` where
    scores are undefined or no random edit of the size can be made.
    """
    _refuse_output(job)
    request = read_request(job.forget, job.retain, seed=job.config.seed)
    base = open_base(job.model)
    language, family = open_language(base)
    require_tokens(language.tokenizer, request)
    require_held_out(request)
    edited = None if job.edited is None else open_edited(job.edited, language)
    probes = held_out_probes(
        request, language.tokenizer, forget_pairs=job.config.forget_pairs, retain_pairs=0, seed=job.config.seed
    )
    probes = asked(probes, job.config.seed)
    _refuse_few(len(probes.pairs))
    forget = accuracy(language, probes, "forgetting")
    assert forget is not None
    _refuse_unknown(forget, job.config)
    layers = family.graph.layers
    late = layers - round(job.policy.late_layers * layers)
    bench = set_up(language, family, probes, late=late, steps=steps)
    plan = Plan(base, request, job.config, job.recipe, job.policy.margin)
    rows = tuple(measure_all(bench, plan, edited, steps=steps))
    document = _document(bench, base, request, edited, job, rows, forget)
    write_atomic(job.out, (document.model_dump_json(indent=1, by_alias=True) + "\n").encode())
    return document


def _document(
    bench: Bench,
    base: Base,
    request: Request,
    edited: Edited | None,
    job: Job,
    rows: tuple[Row, ...],
    forget: Estimate,
) -> Calibration:
    controls, silent = _readings(rows, "control"), [row.cad_row(row.late) for row in rows if row.role == "muted"]
    layers = bench.layers
    return Calibration(
        engine=f"mansu {mansu.__version__}",
        base=_files(base.digests()),
        edited=None if edited is None else _files(edited.digests),
        forget_sha256=request.forget_sha256,
        retain_sha256=request.retain_sha256,
        policy=job.policy,
        policy_sha256=job.policy.sha256(),
        settings=job.config.settings() | {name: str(value) for name, value in asdict(job.recipe).items()},
        pairs=len(bench.pairs),
        edges=int(bench.reference.edges.real.sum()),
        circuit_edges=bench.circuit.size,
        points=POINTS,
        layers=layers,
        late_from=bench.late,
        split_half_floor=bench.floor,
        completeness_residual=bench.reference.edges.residual,
        base_forget=forget,
        base_retain=accuracy(bench.base, bench.probes, "retention"),
        rows=rows,
        rule=rule_in_words(job.policy, layers=layers, late=bench.late, controls=controls, muted=silent),
        undecided=(
            *_unfit(len(bench.pairs), rows, job.policy),
            *defeats(job.policy, layers=layers, controls=controls, muted=silent),
        ),
        checks=() if edited is None else _judged(bench, rows, job.policy),
    )


def _readings(rows: Sequence[Row], role: Role) -> list[CadRow]:
    """Return the readings that the rule is about: with nothing lent, and with the late layers."""
    return [row.cad_row(reading) for row in rows if row.role == role for reading in (row.whole, row.late)]


def _unfit(pairs: int, rows: Sequence[Row], policy: Policy) -> Iterator[str]:
    """Yield why the controls themselves prove nothing: too few pairs, or a muted model that still answers."""
    if pairs < policy.minimum_pairs:
        yield f"there are {pairs} pairs, and the policy asks for {policy.minimum_pairs}"
    for row in rows:
        if row.role == "muted" and row.forget.value > policy.forget_accuracy:
            yield (
                f"{row.label} still answers {row.forget.value:.3f} of the forget set (muted: at most "
                f"{policy.forget_accuracy:.3f}), so it does not show what muting does"
            )


def _judged(bench: Bench, rows: Sequence[Row], policy: Policy) -> tuple[CheckResult, ...]:
    """Return the verifier's checks of the edited model, by the verifier's code."""
    shallow = bench.late == bench.layers  # no layer is late: the read-out alone is lent, which the verifier calls plain

    def placed(row: CadRow) -> CadRow:
        return row.model_copy(update={"from_layer": None}) if shallow and row.from_layer == bench.layers else row

    return judge_forget(
        Erasure(
            pairs=len(bench.pairs),
            retain_pairs=0,
            edges=int(bench.reference.edges.real.sum()),
            circuit_edges=bench.circuit.size,
            points=POINTS,
            split_half_floor=bench.floor,
            completeness_residual=bench.reference.edges.residual,
            layers=bench.layers,
            late_from=bench.late,
            rows=tuple(map(placed, [*_readings(rows, "edited"), *_readings(rows, "control")])),
            depth=(),
        ),
        policy,
    )


def _files(digests: Mapping[str, str]) -> tuple[FileDigest, ...]:
    return tuple(FileDigest(name=name, sha256=sha256) for name, sha256 in digests.items())


def _refuse_output(job: Job) -> None:
    out = job.out.resolve()
    folders = [folder.resolve() for folder in (job.model, job.edited) if folder is not None]
    if out in {job.forget.resolve(), job.retain.resolve()}:
        raise _refused("the output is one of the sets", "another name", str(job.out))
    if any(out.is_relative_to(folder) for folder in folders):
        raise _refused("the output lies inside a model's folder", "a place outside of it", str(job.out))
    if out.is_dir() or not out.parent.is_dir():
        raise _refused("the output cannot be written there", "a file in a folder that exists", str(job.out))


def _refused(what: str, expected: str, found: str) -> UsageError:
    remedy = "correct the command; mansu calibrate --help describes it"
    return UsageError(what, expected=expected, found=found, remedy=remedy, error_id="ME270")


def _refuse_few(pairs: int) -> None:
    if pairs < 2:
        raise UsageError(
            "the forget set holds out no pairs to compare models on",
            expected='held-out prompts that differ in their subject only, or a "corrupt" prompt on each line',
            found=f"{pairs} pairs",
            remedy='write more wordings of each fact, or give each line a "corrupt" prompt of the same token length',
            error_id="ME271",
        )


def _refuse_unknown(forget: Estimate, config: Config) -> None:
    if forget.value < config.forget_known:
        raise UsageError(
            "the model does not know the forget set: there is no circuit that could be muted or erased",
            expected=f"at least {config.forget_known:.0%} of its held-out answers right",
            found=f"{forget.value:.1%} right",
            remedy="check the prompts and answers for this model; nothing was written",
            error_id="ME211",
        )
