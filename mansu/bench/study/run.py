"""The benchmark's loop: for each seed, every method is edited, exported, and measured from the exported files.

What all methods of a seed share is made once, and only if a cell needs it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch

from mansu.base import CPU, open_base
from mansu.baselines import METHODS, export
from mansu.baselines.tuning import ALL_BROKEN
from mansu.baselines.weights import bin_width_over_update, changed
from mansu.bench.ablations import ABLATIONS, ablated
from mansu.bench.study.alike import digest_of, require_base, require_device, require_sets, require_settings
from mansu.bench.study.attacks import relearning, robust
from mansu.bench.study.cells import Cell
from mansu.bench.study.document import (
    AxesRecord,
    EditRecord,
    ErasureRecord,
    RelearningRecord,
    RobustRecord,
    TofuRecord,
)
from mansu.bench.study.edits import Edited, chosen_by, edit, title_of
from mansu.bench.study.knowing import Gold, gold, tofu
from mansu.bench.study.measuring import axes, erasure, load_edited
from mansu.bench.study.reference import Reference, reference
from mansu.bench.study.taught import Classroom, Course
from mansu.bench.study.training import Opened, Training, open_suite, training
from mansu.bench.study.versions import versions
from mansu.config import Config
from mansu.progress import Steps
from verify.errors import UndecidedError, UsageError
from verify.nf4 import quantize

BASE = "base"
"""The name of the cell that holds what the base itself withstands."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: a suite's sets on a base model, these methods with these seeds, into `out`.

    `attacks` says whether to ask in other ways and to teach again, which takes as long as the rest of measuring;
    `frontier` whether to trace mansu's. Models are trained and asked on `device`.
    Of the suite `authors`, `room` is where the base and its reference lie, and `course` what they were taught.
    """

    suite: str
    base: Path
    forget: Path
    retain: Path
    config: Config
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    out: Path
    attacks: bool = False
    frontier: bool = False
    device: torch.device = CPU
    room: Classroom | None = None
    course: Course = field(default_factory=Course)

    def cell(self, seed: int, method: str) -> Cell:
        """Return a cell."""
        return Cell(self.out, self.suite, seed, method)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What every edit of a job is made from, by digest, and by what: as it was when the job began."""

    base_sha256: str
    sets_sha256: str
    versions: dict[str, str]


class _Seed:
    """What all cells of one seed share, each made when it is first needed."""

    def __init__(self, job: Job, seed: int, inputs: _Inputs, steps: Steps) -> None:
        self.inputs = inputs
        self._job, self._steps = job, steps
        self._config = job.config.model_copy(update={"seed": seed})

    @cached_property
    def opened(self) -> Opened:
        job = self._job
        return open_suite(job.suite, job.base, job.forget, job.retain, self._config, job.device)

    @cached_property
    def training(self) -> Training:
        return training(self.opened, steps=self._steps)

    @cached_property
    def reference(self) -> Reference:
        return reference(self.opened, steps=self._steps)

    @cached_property
    def gold(self) -> Gold | None:
        job = self._job
        return None if job.room is None else gold(job.room, job.course, job.device, steps=self._steps)


def run(job: Job, *, steps: Steps) -> tuple[str, ...]:
    """Make every cell that is not there yet; return what could not be made, and why, a line each.

    A method that breaks the model, or a number that is undefined, ends its cell alone: the others go on.

    A baseline is tuned with the first seed, whose setting the others use: each seed's sweep would cost as much again.
    Raises `UsageError` ME380 for an unknown method and ME283 for one whose package is missing, before any work; ME382
    for an edit that is there of another base, sets or configuration; and whatever reading, editing and measuring raise.
    """
    for method in job.methods:
        title_of(method)
        if method in METHODS:
            METHODS[method].require_installed()
    inputs = _Inputs(open_base(job.base).digest(), digest_of(job.forget, job.retain), versions())
    broken: list[str] = []
    for seed in job.seeds:
        shared = _Seed(job, seed, inputs, steps)
        for method in job.methods:
            named = f"{job.suite}, seed {seed}: {title_of(method)}"
            steps.say(named)
            with _alone(broken, named, steps):
                _make(job, job.cell(seed, method), shared, steps)
        _ask_as_tofu(job, job.cell(seed, BASE), job.base, shared, steps)
        if job.attacks:
            named = f"{job.suite}, seed {seed}: the base, for comparison"
            steps.say(named)
            with _alone(broken, named, steps):
                _attack(job.cell(seed, BASE), job.base, shared, steps)
    return tuple(broken)


@contextmanager
def _alone(broken: list[str], named: str, steps: Steps) -> Iterator[None]:
    """Note what breaks one cell alone: every rate breaks the model, it leaves the finite numbers, CAD is undefined."""
    try:
        yield
    except (FloatingPointError, UndecidedError, UsageError) as error:
        if isinstance(error, UsageError) and error.id != ALL_BROKEN:
            raise
        broken.append(f"{named}: {error}")
        steps.say(f"not made: {error}")


def _make(job: Job, cell: Cell, shared: _Seed, steps: Steps) -> None:
    made = cell.read("edit", EditRecord)
    if made is None:
        _edit(job, cell, shared, steps)
    else:
        _require_ours(made, job, shared.inputs)
    _measure(cell, shared, steps)
    _ask_as_tofu(job, cell, cell.model, shared, steps)
    if job.attacks:
        _attack(cell, cell.model, shared, steps)


def _require_ours(made: EditRecord, job: Job, inputs: _Inputs) -> None:
    """Raise `UsageError` ME382 unless this job would have made an edit that is there."""
    require_base(made, inputs.base_sha256)
    require_sets(made, inputs.sets_sha256)
    require_device(made, job.device)
    if made.method not in METHODS:
        config = ablated(made.method, job.config) if made.method in ABLATIONS else job.config
        require_settings(made, dict(config.settings()))


def _edit(job: Job, cell: Cell, shared: _Seed, steps: Steps) -> None:
    first = job.cell(job.seeds[0], cell.method).read("edit", EditRecord) if cell.method in METHODS else None
    edited = edit(cell.method, shared.training, chosen_by(first) if first else None, frontier=job.frontier, steps=steps)
    cell.forget_measured()
    export(cell.model, shared.opened.base, edited.weights)
    cell.write("edit", _record(cell, shared, edited))


def _measure(cell: Cell, shared: _Seed, steps: Steps) -> None:
    wanted = [s for s, schema in (("axes", AxesRecord), ("erasure", ErasureRecord)) if cell.read(s, schema) is None]
    if not wanted:
        return
    edited, deployed = load_edited(cell.model, shared.reference)
    if "axes" in wanted:
        cell.write("axes", axes(edited, deployed, shared.reference, steps=steps))
    if "erasure" in wanted:
        cell.write("erasure", erasure(edited, deployed, shared.reference, steps=steps))


def _attack(cell: Cell, model: Path, shared: _Seed, steps: Steps) -> None:
    absent = [cell.read("robust", RobustRecord) is None, cell.read("relearning", RelearningRecord) is None]
    if not any(absent):
        return
    language = open_base(model).language(shared.opened.language.device)
    if absent[0]:
        cell.write("robust", robust(language, shared.opened, steps=steps))
    if absent[1]:
        cell.write("relearning", relearning(language, shared.opened, steps=steps))


def _ask_as_tofu(job: Job, cell: Cell, model: Path, shared: _Seed, steps: Steps) -> None:
    if job.room is None or cell.read("tofu", TofuRecord) is not None:
        return
    assert shared.gold is not None
    cell.write("tofu", tofu(open_base(model).language(job.device), shared.gold, steps=steps))


def _record(cell: Cell, shared: _Seed, edited: Edited) -> EditRecord:
    opened = shared.opened
    before, after = opened.weights(), edited.weights
    count = changed(before, after)
    crossing = sum(
        int(((quantize(before[name]).codes != quantize(after[name]).codes) & (before[name] != after[name])).sum())
        for name in before
    )
    return EditRecord(
        suite=cell.suite,
        seed=cell.seed,
        method=cell.method,
        title=title_of(cell.method),
        settings=edited.settings,
        sweep=edited.sweep,
        strength=edited.strength,
        tuned_on=edited.tuned_on,
        tried=edited.tried,
        base_sha256=shared.inputs.base_sha256,
        sets_sha256=shared.inputs.sets_sha256,
        parameters=opened.parameters,
        changed=count,
        crossing=crossing,
        bin_width_over_update=bin_width_over_update(before, after) if count else None,
        cost=edited.cost,
        search=edited.search,
        frontier=edited.frontier,
        device=str(opened.language.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=shared.inputs.versions,
    )


def base_cells_of(job: Job) -> Sequence[Cell]:
    """Return the cells that hold what the base withstands."""
    return [job.cell(seed, BASE) for seed in job.seeds]


def cells_of(job: Job) -> Sequence[Cell]:
    """Return all cells of a job, those that are not there yet too."""
    return [job.cell(seed, method) for seed in job.seeds for method in job.methods]
