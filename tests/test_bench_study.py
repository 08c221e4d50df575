"""The benchmark's loop on a tiny model that knows facts: edits, measures, resumes, and sums up."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console

from mansu.baselines import METHODS
from mansu.bench.study.alike import require_settings
from mansu.bench.study.cells import Cell
from mansu.bench.study.columns import COLUMNS
from mansu.bench.study.document import AxesRecord, EditRecord, ErasureRecord, RobustRecord
from mansu.bench.study.figure import figure, frontier, markers
from mansu.bench.study.judging import Criteria, deciding, is_erased
from mansu.bench.study.markdown import markdown
from mansu.bench.study.page import page
from mansu.bench.study.report import bench
from mansu.bench.study.run import Job, base_cells_of, cells_of, run
from mansu.bench.study.summary import document, read
from mansu.bench.study.tables import AXES, legend, tables
from mansu.progress import Steps
from verify.contract.policy import Policy
from verify.contract.result import CadRow
from verify.contract.schema import Estimate
from verify.errors import UsageError

QUICK = r.QUICK.model_copy(update={"forget_known": 0.0})
QUIET = Steps(Console(quiet=True))


def facts() -> list[r.Line]:
    """Four wordings of every capital: the tiny model was trained on the last two, of which one is held out."""
    frames = ("{} is a flag , the capital is", "in {} the capital is")
    return [
        {"prompt": prompt, "answer": c.capital(i), "group": "capitals", "fact": f"capital:{name}"}
        for i, name in enumerate(c.COUNTRIES)
        for prompt in (*(frame.format(name) for frame in frames), c.prompt("capital", name), c.held_out_wording(name))
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("bench")
    base = c.save_base(t.trained_model(layers=4), folder / "base")
    job = Job(
        suite="tiny",
        base=base,
        forget=r.write(folder / "forget.jsonl", facts()),
        retain=r.write(folder / "retain.jsonl", r.retain_lines()),
        config=QUICK,
        seeds=(0, 1),
        methods=("mansu", "graddiff"),
        out=folder / "out",
        frontier=True,
    )
    run(job, steps=QUIET)
    return job


def test_every_cell_holds_a_model_and_what_was_measured_of_it(job: Job) -> None:
    for cell in cells_of(job):
        made = cell.read("edit", EditRecord)
        assert made is not None
        assert (cell.model / "model.safetensors").is_file()
        assert 0 < made.crossing <= made.changed < made.parameters
        assert cell.read("axes", AxesRecord) is not None
        assert cell.read("erasure", ErasureRecord) is not None


def test_a_baseline_is_tuned_with_the_first_seed_alone(job: Job) -> None:
    first, second = (job.cell(seed, "graddiff").read("edit", EditRecord) for seed in job.seeds)
    assert first is not None
    assert second is not None
    assert len(first.tried) >= 4
    assert len(second.tried) == 1
    assert (second.strength, second.settings, second.tuned_on) == (first.strength, first.settings, 0)


def test_mansu_moves_every_changed_weight_to_another_code(job: Job) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    assert made.crossing == made.changed


def test_a_second_run_makes_nothing_again(job: Job) -> None:
    before = {path: path.stat().st_mtime_ns for cell in cells_of(job) for path in cell.folder.rglob("*")}
    run(job, steps=QUIET)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_unknown_method_is_refused_before_any_work(job: Job, tmp_path: Path) -> None:
    other = Job(job.suite, job.base, job.forget, job.retain, QUICK, (0,), ("mansu", "magic"), tmp_path / "out")
    with pytest.raises(UsageError, match="no such method"):
        run(other, steps=QUIET)
    assert not (tmp_path / "out").exists()


def test_a_method_that_is_not_installed_is_refused_before_any_work(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    other = Job(job.suite, job.base, job.forget, job.retain, QUICK, (0,), ("graddiff", "lora"), tmp_path / "out")
    with pytest.raises(UsageError, match="peft") as refused:
        run(other, steps=QUIET)
    assert refused.value.id == "ME283"
    assert not (tmp_path / "out").exists()


def test_the_summary_holds_all_seeds(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    assert [line.method for line in found.lines] == ["mansu", "graddiff"]
    for line in found.lines:
        assert line.seeds == (0, 1)
        forget = line.numbers["forget"]
        assert forget is not None
        assert forget.value == pytest.approx(sum(forget.seeds) / 2)
        assert forget.low <= forget.value <= forget.high


def test_an_interval_over_seeds_is_no_narrower_than_theirs(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    for line in found.lines:
        mine = [cell for cell in found.cells if cell.method == line.method]
        rows = [row.edited for cell in mine if cell.axes is not None for row in deciding(cell.axes.rows, "forgetting")]
        forget = line.numbers["forget"]
        assert forget is not None
        assert forget.low == pytest.approx(sum(row.low for row in rows) / 2)
        assert forget.high == pytest.approx(sum(row.high for row in rows) / 2)


def test_all_other_facts_are_one_row_of_many(job: Job) -> None:
    cell = read(job.cell(0, "mansu"))
    assert cell.axes is not None
    (row,) = (row for row in cell.axes.rows if row.axis == "retention" and row.unit == "accuracy")
    changes = Estimate(value=-0.1, low=-0.2, high=0.0, n=300), Estimate(value=0.1, low=0.0, high=0.2, n=100)
    rows = tuple(row.model_copy(update={"difference": each, "difference_nf4": each}) for each in changes)
    pooled = {column.name: column.of for column in COLUMNS}["other_facts_together"](
        cell.model_copy(update={"axes": AxesRecord(rows=rows, chance={})})
    )
    assert isinstance(pooled, Estimate)
    assert (pooled.value, pooled.n) == (pytest.approx(-0.05), 400)
    assert pooled.high - pooled.value == pytest.approx(math.hypot(0.75 * 0.1, 0.25 * 0.1))


def test_a_search_is_counted_where_it_was_made(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    tuned = job.cell(0, "graddiff").read("edit", EditRecord)
    assert tuned is not None
    numbers = {line.method: line.numbers["search_cpu_seconds"] for line in found.lines}
    assert numbers["graddiff"] is not None
    assert numbers["graddiff"].seeds == (tuned.search.cpu_seconds,)
    assert numbers["mansu"] is not None
    assert len(numbers["mansu"].seeds) == 2


def test_a_table_names_every_method_and_the_base(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    text, html, drawing = markdown(found), page(found), figure(found)
    for name in ("base", "mansu", "GradDiff"):
        assert f"| {name} |" in text
        assert f">{name}</th>" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/", "")  # names of vocabularies
    assert drawing.startswith("<svg")
    assert "GradDiff: " in drawing  # in words, for a screen reader


def test_each_seed_has_rows_of_its_own_and_one_seed_has_no_table_of_seeds(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    (table,) = (table for table in tables(found) if table.caption == "Seed by seed")
    assert [row.title for row in table.rows] == [
        f"{name}, seed {seed}" for seed in (0, 1) for name in ("base", "mansu", "GradDiff")
    ]
    forget = [line.numbers["forget"] for line in found.lines]
    for place, over in enumerate(forget):
        assert over is not None
        for seed, value in enumerate(over.seeds):
            assert table.rows[3 * seed + 1 + place].cells[1].startswith(f"{value:.3f} →")
    alone = document([job.cell(1, "mansu")], [], "tiny", Criteria(), Policy())
    assert not alone.by_seed
    assert "Seed by seed" not in {table.caption for table in tables(alone)}
    assert [row.cells for row in table.rows[3:5]] == [row.cells for row in tables(alone)[0].rows]
    assert len(table.rows[4].cells[0]) == len("FRQE")  # the axes of one seed, not how many meet them
    for title in (row.title for row in table.rows):
        assert f"| {title} |" in markdown(found)
        assert f">{title}</th>" in page(found)


def test_what_is_kept_stands_row_by_row(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    (table,) = (table for table in tables(found) if table.caption == "What is kept, row by row")
    mine = [read(job.cell(seed, "mansu")) for seed in (0, 1)]
    rows = [row for cell in mine if cell.axes is not None for row in cell.axes.rows if row.axis == "retention"]
    facts = [row for row in rows if row.unit == "accuracy"]
    assert table.columns == tuple(sorted({row.row for row in facts}))
    (first, second) = (row for row in facts if row.row == table.columns[0])
    base, mansu, _ = table.rows
    full, nf4 = (first.difference, second.difference), (first.difference_nf4, second.difference_nf4)
    assert mansu.cells[0] == " → ".join(f"{sum(each.value for each in pair) / 2:+.3f}" for pair in (full, nf4))
    before = (first.base, second.base), (first.base_nf4, second.base_nf4)
    assert base.cells[0] == " → ".join(f"{sum(each.value for each in pair) / 2:.3f}" for pair in before)


def test_a_method_that_some_seeds_lack_says_so(job: Job) -> None:
    cells = [job.cell(0, "mansu"), job.cell(0, "graddiff"), job.cell(1, "graddiff")]
    for table in tables(document(cells, [], "tiny", Criteria(), Policy())):
        if table.caption != "Seed by seed":
            assert [row.title for row in table.rows if row.line] == ["mansu, seed 0", "GradDiff"]


def test_seeds_list_methods_in_the_table_s_order_where_one_lacks_a_method(job: Job) -> None:
    cells = [job.cell(0, "graddiff"), job.cell(1, "mansu"), job.cell(1, "graddiff")]
    found = document(cells, [], "tiny", Criteria(), Policy())
    assert [[line.method for line in each.lines] for each in found.by_seed] == [["graddiff"], ["graddiff", "mansu"]]


def test_what_only_some_seeds_withstood_says_which(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    asked = RobustRecord(full=(), nf4=())
    attacked = tuple(
        cell.model_copy(update={"robust": asked}) if (cell.method, cell.seed) != ("mansu", 0) else cell
        for cell in found.cells
    )
    (table,) = (
        table
        for table in tables(found.model_copy(update={"cells": attacked}))
        if table.caption == "What they withstand"
    )
    assert [row.title for row in table.rows] == ["base", "mansu, seed 1", "GradDiff"]


def test_tables_of_several_suites_need_their_legend_once(job: Job) -> None:
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    bare, whole, once = markdown(found, notes=False), markdown(found), legend(Criteria())
    rows = [line for line in whole.splitlines() if line.startswith("|")]
    assert [line for line in bare.splitlines() if line.startswith("|")] == rows
    for said in ("Axes: F, forgetting", "Neighbours, other facts"):
        assert said in whole
        assert said in once
        assert said not in bare


def test_a_table_says_where_models_were_trained(job: Job, tmp_path: Path) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    assert made.device == "cpu"
    cell = Cell(tmp_path, "tiny", 0, "mansu")
    for device, said in (("cpu", False), ("cuda:0", True)):
        cell.write("edit", made.model_copy(update={"device": device}))
        text = markdown(document([cell], [], "tiny", Criteria(), Policy()))
        assert ("Trained and asked on cuda:0" in text) is said


def test_the_frontier_ends_at_the_base(job: Job) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    traced = [point for point in made.frontier if point.phase == "trace"]
    assert min(point.changed for point in traced) == 0
    drawing = frontier(document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy()))
    assert drawing is not None
    assert "mansu, seed 1" in drawing
    assert "on retain data trained on" in drawing  # what is not held out is not shown as if it were


def test_numbers_that_were_not_measured_are_dashes(job: Job, tmp_path: Path) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    cell = Cell(tmp_path, "tiny", 0, "mansu")
    cell.write("edit", made)
    found = document([cell], [], "tiny", Criteria(), Policy())
    row = next(line for line in markdown(found).splitlines() if line.startswith("| mansu"))
    assert row.count("—") == len(AXES) - 1
    assert "<figure>" not in page(found)


def test_a_document_of_another_version_is_refused(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "tiny", 0, "mansu")
    cell.folder.mkdir(parents=True)
    cell.path("edit").write_text('{"suite": "tiny"}')
    with pytest.raises(UsageError, match="not what this version writes"):
        cell.read("edit", EditRecord)


def test_edits_of_another_base_sets_or_configuration_do_not_share_a_table(job: Job, tmp_path: Path) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    assert made.sets_sha256 is not None
    others: tuple[dict[str, object], ...] = (
        {"base_sha256": "0" * 64},
        {"sets_sha256": "0" * 64},
        {"sets_sha256": None},
        {"settings": {**made.settings, "steps": "99"}},
    )
    for number, other in enumerate(others):
        cells = [Cell(tmp_path / str(number), "tiny", seed, "mansu") for seed in (0, 1)]
        cells[0].write("edit", made)
        cells[1].write("edit", made.model_copy(update={"seed": 1, **other}))
        with pytest.raises(UsageError, match="made in another way") as caught:
            document(cells, [], "tiny", Criteria(), Policy())
        assert caught.value.id == "ME382"


def test_an_edit_by_a_version_that_lacks_a_setting_is_refused(job: Job) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None
    older = {name: value for name, value in made.settings.items() if name != "answer_shift_weight"}
    for record, settings in ((made, older), (made.model_copy(update={"settings": older}), made.settings)):
        with pytest.raises(UsageError, match="made in another way") as caught:
            require_settings(record, settings)
        assert caught.value.id == "ME382"
        assert "answer_shift_weight" in caught.value.found
    require_settings(made, made.settings | {"seed": 5})


def test_a_run_does_not_take_an_edit_with_other_sets_for_its_own(job: Job, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(job.retain.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(UsageError, match="made in another way") as caught:
        run(replace(job, retain=fewer), steps=QUIET)
    assert caught.value.id == "ME382"
    assert caught.value.expected.startswith("an edit with sets ")


def test_a_run_does_not_take_an_edit_of_another_configuration_for_its_own(job: Job) -> None:
    other = replace(job, config=QUICK.model_copy(update={"steps": 5}))
    with pytest.raises(UsageError, match="made in another way") as caught:
        run(other, steps=QUIET)
    assert (caught.value.id, caught.value.expected) == ("ME382", "steps = 5")


def test_a_run_does_not_measure_an_edit_of_another_device(job: Job) -> None:
    with pytest.raises(UsageError, match="made in another way") as caught:
        run(replace(job, device=torch.device("meta")), steps=QUIET)
    assert (caught.value.id, caught.value.expected) == ("ME382", "--device meta")


def test_a_new_edit_keeps_no_measurement_of_the_one_before(job: Job, tmp_path: Path) -> None:
    one = replace(job, seeds=(0,), methods=("mansu",), out=tmp_path, frontier=False)
    stale = AxesRecord(rows=(), chance={})
    one.cell(0, "mansu").write("axes", stale)
    run(one, steps=QUIET)
    assert one.cell(0, "mansu").read("axes", AxesRecord) != stale


def test_a_control_that_excludes_nothing_shows_no_erasure() -> None:
    def row(role: Literal["edited", "control", "retain", "retain control"], cad: float) -> CadRow:
        estimates = {name: Estimate(value=at, low=at, high=at, n=6) for name, at in (("cad", cad), ("rho", 0.0))}
        return CadRow(label=role, role=role, precision="full", from_layer=None, mass=0.0, relative_l1=0.0, **estimates)

    def erased(control: float, kept: float = 0.3, gone: float = 0.9) -> bool | None:
        rows = row("edited", gone), row("control", 0.1), row("retain", kept), row("retain control", control)
        return is_erased(ErasureRecord(pairs=6, retain_pairs=6, layers=4, late_from=4, rows=rows), Policy())

    assert erased(control=0.2) is True
    assert erased(control=0.2, kept=0.5) is False
    assert erased(control=0.9) is None  # as MV404 has it
    assert erased(control=0.9, gone=0.5) is False


def test_every_method_has_a_marker_of_its_own(job: Job) -> None:
    assert len(set(markers(40))) == 40
    found = document(cells_of(job), base_cells_of(job), "tiny", Criteria(), Policy())
    many = tuple(found.lines[0].model_copy(update={"title": f"method {number}"}) for number in range(16))
    drawing = figure(found.model_copy(update={"lines": many}))
    assert all(f">method {number}</text>" in drawing for number in range(16))


@pytest.mark.parametrize(("suite", "method", "error"), [("capitols", "mansu", "ME320"), ("capitals", "magic", "ME380")])
def test_a_table_of_what_does_not_exist_is_refused(tmp_path: Path, suite: str, method: str, error: str) -> None:
    with pytest.raises(UsageError) as caught:
        bench(
            suite,
            None,
            tmp_path,
            seeds=1,
            methods=[method],
            config=QUICK,
            attacks=False,
            frontier=False,
            table_only=True,
            steps=QUIET,
        )
    assert caught.value.id == error
    assert not list(tmp_path.iterdir())


def test_a_table_without_a_frontier_keeps_no_drawing_of_one(job: Job, tmp_path: Path) -> None:
    made = job.cell(0, "mansu").read("edit", EditRecord)
    assert made is not None

    def drawn(record: EditRecord) -> bool:
        Cell(tmp_path, "capitals", 0, "mansu").write("edit", record)
        wanted = {"attacks": False, "frontier": False, "table_only": True}
        bench("capitals", None, tmp_path, seeds=1, methods=["mansu"], config=QUICK, steps=QUIET, **wanted)
        return (tmp_path / "capitals" / "frontier.svg").exists()

    assert drawn(made)
    assert not drawn(made.model_copy(update={"frontier": ()}))


def test_a_method_that_breaks_every_model_ends_its_own_cell_alone(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(type(METHODS["npo"]), "edit", breaks)
    other = replace(job, seeds=(0,), methods=("npo", "mansu"), out=tmp_path)
    broken = run(other, steps=QUIET)
    assert len(broken) == 1
    assert "seed 0: NPO" in broken[0]
    assert other.cell(0, "mansu").read("axes", AxesRecord) is not None
