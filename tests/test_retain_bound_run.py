"""`mansu bound` on a tiny model that really unlearned: what is measured lies below what is proved."""

import sys
from dataclasses import replace
from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console

from mansu import cli
from mansu.base import open_base, open_language
from mansu.bench.permanence_report import Job as Matrix
from mansu.bench.permanence_report import permanence
from mansu.progress import Steps
from mansu.request import read_request
from mansu.retain_bound import measure
from mansu.retain_bound.document import RetainBound
from mansu.retain_bound.edit import read_edit
from mansu.retain_bound.report import shown
from mansu.retain_bound.run import Job, retain_bound
from mansu.seal.same_split import require_same_split
from mansu.unlearn import unlearn
from verify.artefact.ledger import parse
from verify.artefact.signing import load_signer
from verify.errors import UsageError

QUICK = r.QUICK


def known_facts() -> list[r.Line]:
    return [
        {"prompt": frame, "answer": c.capital(i), "group": "capitals", "fact": f"capital:{name}"}
        for i, name in enumerate(c.COUNTRIES)
        for frame in (c.prompt("capital", name), c.held_out_wording(name))
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_keys: c.Keys) -> Job:
    """A tiny model that knew the capitals, and its certificate after unlearning them."""
    folder = tmp_path_factory.mktemp("bound")
    base = c.save_base(t.trained_model(layers=4), folder / "base")
    forget = r.write(folder / "forget.jsonl", known_facts())
    retain = r.write(folder / "retain.jsonl", r.retain_lines())
    signer, quiet = load_signer(tiny_keys.private), Steps(Console(quiet=True))
    unlearn(base, forget, retain, signer, folder / "out", QUICK, steps=quiet)
    return Job(base, folder / "out", retain, forget, QUICK, prompts=20, texts=3, draws=4)


@pytest.fixture(scope="module")
def found(job: Job) -> RetainBound:
    return retain_bound(job, steps=Steps(Console(quiet=True)))


def test_the_measured_change_lies_below_every_bound(found: RetainBound) -> None:
    assert found.exceeded == 0
    assert [(each.which, each.held_out) for each in found.sets] == [
        ("prompts", False),
        ("texts", False),
        ("prompts", True),
        ("texts", True),
    ]
    for each in found.sets:
        assert each.positions == each.sequences * (8 if each.which == "texts" else 1)
        assert 0 < each.measured <= each.by_logits
        assert each.measured <= min(each.by_fisher, each.by_layers) < found.ceiling
    assert all(block.leak <= block.bound for block in found.leaks)
    assert [block.block for block in found.leaks] == [block.block for block in found.sets[0].blocks]
    assert all(0 < diagonal.coherence <= found.moved for diagonal in found.diagonals)
    assert found.engine_cost > 0
    assert found.split == "the engine's"
    assert (found.transfer.calibrated, found.transfer.tested) == (10, 10)
    assert found.transfer.covered is not None


def test_the_edit_is_the_ledgers(job: Job, found: RetainBound) -> None:
    base = open_base(job.model)
    language, _ = open_language(base)
    edits = read_edit(base, language.model, job.edited)
    ledger = parse((job.edited / "ledger.safetensors").read_bytes())
    assert found.moved == ledger.masked
    assert {f"{name}.weight" for name in edits} == ledger.entries.keys()
    for name, edit in edits.items():
        entry = ledger.entries[f"{name}.weight"]
        assert torch.equal(edit.indices, entry.indices)
        assert torch.equal(edit.values - edit.moves, entry.base.float())


def words_of(job: Job, *more: object) -> list[str]:
    """The command on a few prompts of the job's set."""
    config = job.retain.parent / "c.toml"
    config.write_text("text_length = 8\n")
    words = ["--model", job.model, "--edited", job.edited / "model", "--retain", job.retain, "--config", config]
    return ["mansu", "bound", *map(str, (*words, "--prompts", 4, "--texts", 1, "--draws", 2, *more))]


def test_text_and_json_say_what_was_found(
    job: Job, found: RetainBound, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(found)
    assert "Every measured change lies below its bounds" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "EXCEEDED: 3" in shown(found.model_copy(update={"exceeded": 3}))
    monkeypatch.setattr(sys, "argv", words_of(job, "--json"))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    document = RetainBound.model_validate_json(capsys.readouterr().out)
    assert (document.moved, document.split, document.transfer.factor) == (found.moved, "halves", None)


def test_a_bound_that_is_exceeded_fails_the_command(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = measure.divergence_bound
    monkeypatch.setattr(measure, "divergence_bound", lambda *args: right(*args) * 1e-3)
    monkeypatch.setattr(sys, "argv", words_of(job, "--forget", job.forget))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "EXCEEDED" in capsys.readouterr().out


def test_what_is_no_edit_of_linear_layers_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = open_base(tiny_base)
    language, _ = open_language(base)
    model = c.random_model()
    with pytest.raises(UsageError) as itself:
        read_edit(base, language.model, tiny_base)
    with torch.no_grad():
        model.model.norm.weight[0] = 2.0
    with pytest.raises(UsageError) as norm:
        read_edit(base, language.model, c.save_base(model, tmp_path / "norm"))
    with pytest.raises(UsageError) as shape:
        read_edit(base, language.model, c.save_base(c.random_model(layers=3), tmp_path / "shape"))
    assert [error.value.id for error in (itself, norm, shape)] == ["ME350"] * 3
    assert "model.norm.weight" in norm.value.found


def test_a_set_without_a_second_fact_is_refused(
    tiny_base: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    retain = r.write(tmp_path / "retain.jsonl", r.retain_lines()[:1])
    job = Job(tiny_base, tiny_certificate.out, retain, None, QUICK)
    with pytest.raises(UsageError) as refused:
        retain_bound(job, steps=Steps(Console(quiet=True)))
    assert refused.value.id == "ME351"


def test_a_split_by_another_seed_is_refused(job: Job) -> None:
    other = replace(job, config=QUICK.model_copy(update={"seed": 7}))
    with pytest.raises(UsageError, match="made with another seed") as caught:
        retain_bound(other, steps=Steps(Console(quiet=True)))
    assert (caught.value.id, caught.value.expected.split(",")[0]) == ("ME352", "seed 0")
    assert job.forget is not None
    matrix = Matrix(job.model, job.edited / "model", job.forget, job.retain, ("nf4",), 10, 7, None)
    with pytest.raises(UsageError) as caught:
        permanence(matrix, steps=Steps(Console(quiet=True)))
    assert caught.value.id == "ME352"


def test_of_other_sets_or_without_a_manifest_no_seed_is_asked_for(job: Job, tmp_path: Path) -> None:
    assert job.forget is not None
    ours = read_request(job.forget, job.retain, seed=7)
    require_same_split(job.edited, replace(ours, forget_sha256="0" * 64), 7)
    require_same_split(tmp_path, ours, 7)
    (tmp_path / "m.json").write_text("{}")
    require_same_split(tmp_path, ours, 7)
    require_same_split(job.edited, read_request(job.forget, job.retain, seed=0), 0)
