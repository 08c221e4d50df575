"""The suite `authors`: a tiny model is taught people, made to forget some, and held against one that never met them."""

import pytest
import torch
from requests_tiny import QUICK
from rich.console import Console
from test_bench_authors import fresh, tokenizer

from mansu.base import CPU
from mansu.bench.authors import authors_suite, examples, perturbed_rows, real_authors, world_facts
from mansu.bench.study.document import TofuRecord
from mansu.bench.study.judging import Criteria
from mansu.bench.study.markdown import markdown
from mansu.bench.study.page import page
from mansu.bench.study.run import BASE, Job, base_cells_of, cells_of, run
from mansu.bench.study.summary import document
from mansu.bench.study.taught import Classroom, Course, TaughtRecord, teach
from mansu.progress import Steps
from verify.contract.policy import Policy
from verify.errors import UsageError

COURSE = Course(count=10, forgotten=4, epochs=6, rate=3e-3)
QUIET = Steps(Console(quiet=True))


def texts() -> list[str]:
    """Everything that the tiny model's vocabulary must hold."""
    people = COURSE.authors()
    suite = authors_suite(people)
    rows = (*perturbed_rows(people.every), *real_authors(), *world_facts())
    lines = [" ".join(str(value) for value in line.values()) for line in (*suite.forget, *suite.retain)]
    asked = [text for row in rows for text in (row.question, row.answer, row.right, *row.perturbed_answer)]
    return [*lines, *asked, *(f"{a} {b}" for a, b in examples(people.every))]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    out = tmp_path_factory.mktemp("authors")
    words = tokenizer(texts())
    source = out / "source"
    fresh(len(words)).to(torch.bfloat16).save_pretrained(source)
    words.save_pretrained(source)
    room = Classroom(out / "authors")
    teach(source, room, COURSE, CPU, steps=QUIET)
    job = Job(
        suite="authors",
        base=room.base,
        forget=room.folder / "sets" / "forget.jsonl",
        retain=room.folder / "sets" / "retain.jsonl",
        config=QUICK.model_copy(update={"forget_known": 0.0}),
        seeds=(0,),
        methods=("graddiff",),
        out=out,
        room=room,
        course=COURSE,
    )
    assert run(job, steps=QUIET) == ()
    return job


def test_both_models_are_taught_and_only_one_meets_all(job: Job) -> None:
    assert job.room is not None
    records = [
        TaughtRecord.model_validate_json(folder.with_suffix(".json").read_bytes())
        for folder in (job.room.base, job.room.gold)
    ]
    assert [record.taught for record in records] == [10, 6]
    assert all(record.loss < 2.0 for record in records)
    assert all((folder / "model.safetensors").is_file() for folder in (job.room.base, job.room.gold))


def test_what_is_taught_is_not_taught_again(job: Job) -> None:
    assert job.room is not None
    before = (job.room.base / "model.safetensors").stat().st_mtime_ns
    teach(job.out / "source", job.room, COURSE, CPU, steps=QUIET)
    assert (job.room.base / "model.safetensors").stat().st_mtime_ns == before


def test_a_model_that_was_taught_otherwise_is_refused(job: Job) -> None:
    assert job.room is not None
    others = (job.room.gold, COURSE), (job.out / "source", COURSE.model_copy(update={"rate": 1.0}))
    for source, course in others:
        with pytest.raises(UsageError, match="taught in another way") as caught:
            teach(source, job.room, course, CPU, steps=QUIET)
        assert caught.value.id == "ME382"


def test_the_model_that_knows_is_told_from_the_one_that_never_did(job: Job) -> None:
    knowing = job.cell(0, BASE).read("tofu", TofuRecord)
    edited = job.cell(0, "graddiff").read("tofu", TofuRecord)
    assert knowing is not None
    assert edited is not None
    assert knowing.forget_quality < 0.05
    assert 0 <= edited.statistic <= 1
    assert knowing.reference_utility == edited.reference_utility


def test_the_table_has_tofus_metrics(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "authors", Criteria(), Policy())
    text, html = markdown(found), page(found)
    assert "forget quality, p" in text
    assert "Told from a model that never knew" in html
    row = [line for line in text.splitlines() if line.startswith("| base |")][-1]
    assert "—" not in row
