"""`mansu calibrate` on a tiny model that knows facts: what each control reads, what follows, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from mansu.base import open_base, open_language
from mansu.calibration.bench import Bench, accuracy, asked, changes, measured, set_up
from mansu.calibration.controls import FINE_TUNED, HEAD, LAST_MLP, RANDOM_MASK, Plan, open_edited, random_edit
from mansu.calibration.document import Calibration, Row
from mansu.calibration.run import Job, calibrate
from mansu.calibration.text import shown
from mansu.calibration.training import Recipe, head_only, last_mlp_only
from mansu.config import Config
from mansu.data.probes import held_out_probes
from mansu.progress import Steps
from mansu.request import read_request
from verify.behaviour.loading import variant
from verify.checks.erasure import BASE_NF4, RANDOM
from verify.checks.study import POINTS, SEED
from verify.circuits import attribute, bootstrap, cad, swapped
from verify.contract.policy import Policy
from verify.errors import ExitCode, UndecidedError, UsageError

LAYERS, LATE = 3, 2
CONFIG = Config(sampled_texts=4, text_length=8, forget_pairs=12, entry_share=0.0)
POLICY = Policy(minimum_pairs=12, forget_accuracy=0.2)
RECIPE = Recipe(mute_steps=80, mute_rate=5e-3, fine_tune_steps=10)


def quiet() -> Steps:
    return Steps(Console(quiet=True))


def forget_lines() -> list[r.Line]:
    """The request's wordings, the last of which, held out, is one that the tiny model knows, as it knows the first."""
    changed = {f"in {name} the capital is": c.held_out_wording(name) for name in c.COUNTRIES}
    return [line | {"prompt": changed.get(str(line["prompt"]), line["prompt"])} for line in r.forget_lines()]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A model that knows, and the same with the MLP of its second layer silenced."""
    folder = tmp_path_factory.mktemp("calibration")
    base = c.save_base(t.trained_model(layers=LAYERS), folder / "base")
    edited = c.save_base(c.random_model(layers=LAYERS), folder / "edited")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] = torch.zeros_like(weights["model.layers.1.mlp.down_proj.weight"])
    save_file(weights, edited / "model.safetensors", metadata={"format": "pt"})
    forget, retain = r.write(folder / "f.jsonl", forget_lines()), r.write(folder / "r.jsonl", r.retain_lines())
    return Job(base, forget, retain, folder / "c.json", CONFIG, POLICY, edited, RECIPE)


@pytest.fixture(scope="module")
def found(job: Job) -> Calibration:
    return calibrate(job, steps=quiet())


@pytest.fixture(scope="module")
def bench(job: Job) -> Bench:
    language, family = open_language(open_base(job.model))
    request = read_request(job.forget, job.retain, seed=0)
    probes = held_out_probes(request, language.tokenizer, forget_pairs=12, retain_pairs=0, seed=0)
    return set_up(language, family, asked(probes, 0), late=LATE, steps=quiet())


def row(found: Calibration, label: str, precision: str = "full") -> Row:
    (one,) = [each for each in found.rows if (each.label, each.precision) == (label, precision)]
    return one


def test_the_controls_are_there_in_order(found: Calibration) -> None:
    assert [(each.label, each.role, each.precision) for each in found.rows] == [
        (BASE_NF4, "control", "nf4"),
        (RANDOM_MASK, "control", "full"),
        (FINE_TUNED, "control", "full"),
        (HEAD, "muted", "full"),
        (LAST_MLP, "muted", "full"),
        ("edited", "edited", "full"),
        ("edited", "edited", "nf4"),
    ]
    assert (found.layers, found.late_from, found.pairs, found.points) == (LAYERS, LATE, 12, POINTS)
    assert found.base_forget.value > 0.9
    assert found.circuit_edges < found.edges * 0.05


def test_muting_the_head_leaves_nothing_once_the_head_is_the_bases(found: Calibration) -> None:
    head = row(found, HEAD)
    assert head.forget.value <= POLICY.forget_accuracy
    assert head.whole.cad.value > 0.5
    assert (head.read_out.cad.value, head.late.cad.value) == (0, 0)
    assert (head.read_out.from_layer, head.late.from_layer) == (LAYERS, LATE)


def test_muting_the_last_mlp_shows_until_the_late_layers_are_the_bases(found: Calibration) -> None:
    mlp = row(found, LAST_MLP)
    assert mlp.forget.value <= POLICY.forget_accuracy
    assert min(mlp.whole.cad.value, mlp.read_out.cad.value) > 0.5
    assert mlp.late.cad.value == 0


def test_what_erases_nothing_reads_low_and_still_answers(found: Calibration) -> None:
    for label, precision in ((BASE_NF4, "nf4"), (FINE_TUNED, "full")):
        control = row(found, label, precision)
        assert 0 < control.whole.cad.value < 0.5
        assert control.late.cad.value < 0.6
        assert control.forget.value > 0.8


def test_the_rule_follows_from_the_numbers(found: Calibration) -> None:
    top = max((each for each in found.rows if each.role == "control"), key=lambda each: each.whole.cad.high)
    assert f"{top.whole.cad.value:.3f}" in found.rule
    assert f"{row(found, LAST_MLP).late.cad.value:.3f} [" in found.rule
    assert found.undecided == ()
    assert [check.id for check in found.checks] == ["MV401", "MV402", "MV406", "MV403"]
    failed = any(check.status == "fail" for check in found.checks)
    assert found.exit_code() == (ExitCode.FAIL if failed else ExitCode.PASS)
    assert found.model_copy(update={"checks": ()}).exit_code() == ExitCode.PASS


def test_the_document_is_what_was_written_and_nothing_lies_beside_it(job: Job, found: Calibration) -> None:
    text = job.out.read_text(encoding="utf-8")
    assert Calibration.model_validate_json(text) == found
    assert json.loads(text)["schema_"] == "urn:mansu:calibration/v1"
    assert {path.name for path in job.out.parent.iterdir()} == {"base", "edited", "f.jsonl", "r.jsonl", "c.json"}
    assert {file.name: file.sha256 for file in found.base} == c.digests_of(job.model)
    with pytest.raises(ValueError, match="extra"):
        Calibration.model_validate_json(text.replace('"engine"', '"engin"', 1))


def test_readings_are_those_of_models_really_swapped(bench: Bench) -> None:
    """No shortcut: attribute an edit of layers 1 and 2 with each depth lent, and compare with what the row says."""
    weights = {
        f"model.layers.{layer}.mlp.up_proj.weight": bench.base.model.get_parameter(
            f"model.layers.{layer}.mlp.up_proj.weight"
        )
        * factor
        for layer, factor in ((1, 0.8), (LATE, 0.5))
    }
    language = variant(bench.base, weights)
    one = measured(bench, language, "x", "control", steps=quiet())
    size = bench.base.model.get_parameter("model.layers.1.mlp.up_proj.weight").numel()
    assert one.changed == 2 * size
    before = attribute(bench.base.model, bench.pairs, points=POINTS, per_example=True)
    for reading, edges in ((one.whole, bench.circuit), (one.random_edges, bench.others)):
        after = attribute(language.model, bench.pairs, points=POINTS, per_example=True)
        assert reading.cad.value == pytest.approx(cad(before.scores, after.scores, edges), abs=1e-5)
        interval = bootstrap(before.per_example, after.per_example, edges, seed=SEED)
        assert (reading.mass.low, reading.rho.high) == pytest.approx((interval.mass.low, interval.rho.high), abs=1e-4)
    for reading, layer in ((one.read_out, LAYERS), (one.late, LATE)):
        with swapped(language.model, bench.base.model, layer):
            after = attribute(language.model, bench.pairs, points=POINTS)
        assert reading.cad.value == pytest.approx(cad(before.scores, after.scores, bench.circuit), abs=1e-5)
    assert 0 < one.late.cad.value < one.whole.cad.value == one.read_out.cad.value


def test_random_edges_are_as_many_and_not_the_circuit(bench: Bench) -> None:
    assert bench.others.size == bench.circuit.size
    assert not torch.equal(bench.others.edges, bench.circuit.edges)


def test_changes_are_counted_by_part(bench: Bench) -> None:
    model = bench.base.model
    names = (*head_only(bench.family), *last_mlp_only(bench.family, model), "model.embed_tokens.weight")
    other = variant(bench.base, {name: model.state_dict()[name] + 1 for name in names}).model
    sizes = {-1: 64 * len(c.tokenizer()), LATE: 3 * 64 * 128, LAYERS: 64 * len(c.tokenizer())}
    assert changes(model, other, bench.family) == sizes
    assert changes(model, model, bench.family) == {}


def test_every_model_is_asked_the_same_questions_of_the_rows_that_decide(bench: Bench) -> None:
    assert {choice.row for choice in bench.probes.choices if choice.axis == "forgetting"} == {
        "capitals, held-out wordings"
    }
    of_retention = accuracy(bench.base, bench.probes, "retention")
    assert of_retention is not None
    assert accuracy(bench.base, replace(bench.probes, choices=()), "retention") is None


def test_the_random_edit_is_of_the_edited_models_size_where_that_fits(job: Job, bench: Bench, tmp_path: Path) -> None:
    """A sparse edit gets a control of its own size in its own tensors; one beyond any mask, one of the mask's size."""
    base, name = open_base(job.model), "model.layers.0.mlp.up_proj.weight"
    folder = c.save_base(c.random_model(layers=LAYERS), tmp_path / "edited")
    weights = load_file(job.model / "model.safetensors")
    weights[name].view(-1)[:50] = -weights[name].view(-1)[:50]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edited = open_edited(folder, bench.base)
    assert {tensor: indices.tolist() for tensor, indices in edited.moved.items()} == {name: list(range(50))}
    plan = Plan(base, read_request(job.forget, job.retain, seed=0), CONFIG, RECIPE, POLICY.margin)
    label, control = random_edit(bench, plan, edited)
    moved = (control[name] != bench.base.model.get_parameter(name)).reshape(-1).nonzero().reshape(-1)
    assert (label, [*control], moved.numel()) == (RANDOM, [name], 50)
    assert int(moved.min()) >= 50
    size = int(CONFIG.mask_share * sum(view.count for view in base.weights.tensors().values()))
    for dense in (None, replace(edited, moved={name: torch.arange(size + 1)})):
        label, control = random_edit(bench, plan, dense)
        count = sum(int((weight != bench.base.model.get_parameter(n)).sum()) for n, weight in control.items())
        assert label == RANDOM_MASK
        assert abs(count - size) <= len(control)
        assert all(tensor.startswith(("model.layers.0.", "model.layers.1.")) for tensor in control)


def test_the_table_fits_80_columns_and_markdown_holds_the_same(found: Calibration) -> None:
    text, markdown = shown(found), shown(found, markdown=True)
    assert max(map(len, text.splitlines())) <= 80
    for label in (BASE_NF4, HEAD, LAST_MLP, FINE_TUNED):
        assert any(line.startswith(f"| {label} ") for line in markdown.splitlines())
    cell = found.rows[0].whole.cad
    assert f"{cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f})" in markdown
    assert f"{cell.value:.3f}" in text
    assert " ".join(text.split()).count(found.rule) == markdown.count(found.rule) == 1


REFUSALS: dict[str, tuple[str, Callable[[Job, Path], Job]]] = {
    "no folder for the output": ("ME270", lambda job, folder: replace(job, out=folder / "none" / "c.json")),
    "a set as output": ("ME270", lambda job, _: replace(job, out=job.retain)),
    "an output in the model": ("ME270", lambda job, _: replace(job, out=job.model / "config.json")),
    "an output that is a folder": ("ME270", lambda job, folder: replace(job, out=folder)),
    "no set": ("ME201", lambda job, folder: replace(job, forget=folder / "none.jsonl")),
    "no model": ("ME210", lambda job, folder: replace(job, model=folder / "none")),
    "another shape": (
        "ME241",
        lambda job, folder: replace(job, edited=c.save_base(c.random_model(layers=2), folder / "other")),
    ),
    "a model that knows nothing": (
        "ME211",
        lambda job, folder: replace(job, model=c.save_base(c.random_model(layers=LAYERS), folder / "new"), edited=None),
    ),
    "nothing to pair": (
        "ME271",
        lambda job, folder: replace(
            job,
            forget=r.write(
                folder / "two.jsonl", [{**line, "alternatives": [c.capital(1)]} for line in forget_lines()[:4]]
            ),
        ),
    ),
    "one answer alone": (
        "ME214",
        lambda job, folder: replace(job, forget=r.write(folder / "two.jsonl", forget_lines()[:4])),
    ),
}


@pytest.mark.parametrize("which", REFUSALS)
def test_misuse_is_refused_and_leaves_nothing(which: str, job: Job, tmp_path: Path) -> None:
    identity, change = REFUSALS[which]
    with pytest.raises(UsageError) as caught:
        calibrate(change(replace(job, out=tmp_path / "c.json"), tmp_path), steps=quiet())
    assert caught.value.id == identity
    assert not list(tmp_path.glob("*c.json*"))


def test_a_run_that_breaks_off_leaves_an_older_calibration_whole(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.json"
    out.write_text("older", encoding="utf-8")

    def no_room(*_: object, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)

    monkeypatch.setattr("mansu.calibration.controls.random_moves", no_room)
    with pytest.raises(UndecidedError):
        calibrate(replace(job, out=out, edited=None), steps=quiet())
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("c.json", "older")]


def test_a_rule_that_controls_defeat_is_undecided_and_exits_so(job: Job, found: Calibration, tmp_path: Path) -> None:
    """The same model under a policy whose late threshold every control reaches, and which asks for more pairs."""
    policy = 'level = "full"\nminimum_pairs = 99\ncad_late = 0.0\nforget_accuracy = 0.0\n'
    config = "sampled_texts = 4\ntext_length = 8\nforget_pairs = 4\nentry_share = 0.0\nforget_target = 0.4\n"
    for name, text in (("p.toml", policy), ("c.toml", config)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    sets = ["--model", job.model, "--forget", job.forget, "--retain", job.retain, "--config", tmp_path / "c.toml"]

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "mansu.cli", "calibrate", *map(str, [*sets, *words])]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    done = run("--policy", tmp_path / "p.toml", "--out", tmp_path / "c.json")
    assert done.returncode == ExitCode.UNDECIDED, done.stderr
    one = Calibration.model_validate_json((tmp_path / "c.json").read_bytes())
    assert "there are 4 pairs, and the policy asks for 99" in one.undecided
    assert any("still answers" in reason for reason in one.undecided)
    muting = "the rule cannot tell erasure from muting on this model"
    assert sum(reason.startswith(muting) for reason in one.undecided) == 2
    assert muting in one.rule
    assert muting not in found.rule
    assert one.checks == ()
    said = " ".join(done.stdout.split())
    assert one.rule in said
    assert f"Undecided: {one.undecided[0]}" in said
    refused = run("--out", tmp_path / "none" / "c.json")
    assert (refused.returncode, refused.stderr[:5]) == (2, "ME270")
