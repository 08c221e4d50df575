"""The benchmark's command: a suite's sets, the run, and its table as Markdown, JSON and HTML."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mansu.base import CPU
from mansu.bench.study.edits import method_names, title_of
from mansu.bench.study.figure import figure
from mansu.bench.study.figure import frontier as traced_frontier
from mansu.bench.study.judging import Criteria
from mansu.bench.study.markdown import markdown
from mansu.bench.study.page import page
from mansu.bench.study.run import Job, base_cells_of, cells_of, run
from mansu.bench.study.summary import document
from mansu.bench.study.taught import SUITE as AUTHORS
from mansu.bench.study.taught import Classroom, teach
from mansu.bench.suites import build_suite, write_suite
from mansu.config import Config
from mansu.demo.base_model import write_base
from mansu.progress import Steps
from verify.artefact import write_atomic
from verify.contract.policy import Policy

TABLE = "table"
FRONTIER = "frontier.svg"
FORMATS = (".md", ".json", ".html", ".svg")


def bench(
    suite: str,
    model: Path | None,
    out: Path,
    *,
    seeds: int,
    methods: Sequence[str],
    config: Config,
    attacks: bool,
    frontier: bool,
    device: torch.device = CPU,
    table_only: bool,
    steps: Steps,
) -> tuple[str, tuple[str, ...]]:
    """Run what is missing of a suite, write its table to `out`/SUITE; return it as Markdown, and what was not made.

    Without a `model` the base is the demo's, written to `out`/base. Of the suite `authors` it is taught fictitious
    people first, and what is edited is the model that knows them (`mansu.bench.study.taught`). With `table_only`
    nothing is run.
    Raises `UsageError` ME320 for an unknown suite, ME323 where `authors` needs packages that are not there, ME380 for
    an unknown method, ME381 for documents of another version, ME382 for edits of another base or configuration.
    """
    source = out / "base" if model is None else model
    room = Classroom(out / suite) if suite == AUTHORS else None
    job = Job(
        suite=suite,
        base=source if room is None else room.base,
        forget=out / suite / "sets" / "forget.jsonl",
        retain=out / suite / "sets" / "retain.jsonl",
        config=config,
        seeds=tuple(range(config.seed, config.seed + seeds)),
        methods=tuple(methods) or method_names(),
        out=out,
        attacks=attacks,
        frontier=frontier,
        device=device,
        room=room,
    )
    if room is None:
        build_suite(suite)
    for method in job.methods:
        title_of(method)
    broken: tuple[str, ...] = ()
    if not table_only:
        if model is None:
            write_base(source)
        if room is None:
            write_suite(suite, job.forget.parent)
        else:
            teach(source, room, job.course, device, steps=steps)
        broken = run(job, steps=steps)
    found = document(cells_of(job), base_cells_of(job), suite, Criteria(), Policy())
    text = markdown(found)
    # the JSON holds everything that the others show
    forms = (text, found.model_dump_json(indent=1) + "\n", page(found), figure(found))
    for suffix, content in zip(FORMATS, forms, strict=True):
        write_atomic((out / suite / TABLE).with_suffix(suffix), content.encode())
    traced, drawing = traced_frontier(found), out / suite / FRONTIER
    if traced is not None:
        write_atomic(drawing, traced.encode())
    else:
        drawing.unlink(missing_ok=True)  # of edits that are not there any more
    return text, broken
