"""`mansu circuit` on a tiny model that knows facts: what it finds and writes, and what it refuses before any work."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from jsonschema import Draft202012Validator
from rich.console import Console
from safetensors.torch import load_file, save_file

from mansu.base import open_base, open_language
from mansu.circuit.report import Job, notes, report
from mansu.data.probes import training_pairs
from mansu.progress import Steps
from mansu.request import pools, read_forget
from reports import render_circuit
from verify.circuits import Circuit, attribute, cad
from verify.circuits import faithfulness as faithfulness_of
from verify.contract.circuit import CircuitDocument
from verify.errors import UsageError

ROOT = Path(__file__).parent.parent


def quiet() -> Steps:
    return Steps(Console(quiet=True))


def facts() -> list[r.Line]:
    """The wordings that the tiny model was trained on."""
    return [
        {"prompt": frame(name), "answer": c.capital(i), "group": "capitals", "fact": f"capital:{name}"}
        for i, name in enumerate(c.COUNTRIES)
        for frame in (lambda n: c.prompt("capital", n), c.held_out_wording)
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A model that knows the facts, and the same with its second layer's MLP silenced."""
    folder = tmp_path_factory.mktemp("circuit")
    base = c.save_base(t.trained_model(layers=3), folder / "base")
    edited = c.save_base(t.trained_model(layers=3, steps=0), folder / "edited")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] = torch.zeros_like(weights["model.layers.1.mlp.down_proj.weight"])
    save_file(weights, edited / "model.safetensors", metadata={"format": "pt"})
    forget = r.write(folder / "forget.jsonl", facts())
    return Job(base, forget, folder / "circuit.json", folder / "circuit.svg", edited, pairs=8)


@pytest.fixture(scope="module")
def found(job: Job) -> tuple[CircuitDocument, str]:
    return report(job, steps=quiet())


def test_the_document_is_what_was_found_and_fits_its_schema(job: Job, found: tuple[CircuitDocument, str]) -> None:
    document, said = found
    text = job.out.read_text(encoding="utf-8")
    assert CircuitDocument.model_validate_json(text) == document
    schema = json.loads((ROOT / "spec" / "schemas" / "circuit.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads(text))
    assert document.forget_sha256 == hashlib.sha256(job.forget.read_bytes()).hexdigest()
    assert {file.name: file.sha256 for file in document.model.files} == c.digests_of(job.model)
    assert (document.rule, document.points, document.pairs, document.held_out_pairs) == ("midpoint", 5, 8, 4)
    assert document.reached
    assert document.faithfulness >= document.target == 0.85
    assert any((s.edges, s.faithfulness) == (len(document.edges), document.faithfulness) for s in document.trace)
    assert f"{len(document.edges):,} of {document.edges_total:,} edges" in said
    assert str(job.out) in said
    assert str(job.svg) in said


def test_the_circuit_is_as_faithful_as_it_says_on_pairs_it_was_not_made_from(
    job: Job, found: tuple[CircuitDocument, str]
) -> None:
    document, _ = found
    language, family = open_language(open_base(job.model))
    graph = family.graph
    edges = torch.zeros_like(graph.real)
    for edge in document.edges:
        edges[graph.writers.index(edge.writer), graph.readers.index(edge.reader)] = True
    read, _ = read_forget(job.forget)
    pairs = training_pairs(read, pools(read), language.tokenizer, count=12, seed=0)
    again = faithfulness_of(language.model, pairs[8:], Circuit(graph, edges))
    assert again == pytest.approx(document.faithfulness, abs=1e-4)
    scores = attribute(language.model, pairs[:8])
    nodes = {node.name: node.score for node in document.nodes}
    assert [*nodes] == [*scores.writers, "logits"]
    assert nodes["input"] == pytest.approx(float(scores.scores[0].sum()), abs=1e-4)
    assert {node.name for node in document.nodes if node.in_circuit} >= {"input", "logits"}


def test_the_edited_model_is_compared_on_the_same_pairs(job: Job, found: tuple[CircuitDocument, str]) -> None:
    document, said = found
    assert document.after is not None
    assert {file.name: file.sha256 for file in document.after.model.files} == c.digests_of(job.after or Path())
    silenced = next(node for node in document.nodes if node.name == "m1")
    assert silenced.after == 0 != silenced.score
    row, reference = document.after.divergences
    assert (row.over, row.edges) == ("the circuit", len(document.edges))
    assert reference.over == "the reference circuit"
    before, after = (torch.tensor([getattr(edge, side) for edge in document.edges]) for side in ("score", "after"))
    assert row.cad.value == pytest.approx(cad(before, after), abs=1e-5)
    assert row.rho.value == pytest.approx(float((before * after).sum() / before.square().sum()), abs=1e-5)
    assert row.mass == pytest.approx(float(after.abs().sum() / before.abs().sum()), abs=1e-5)
    assert row.cad.low <= row.cad.high
    assert row.cad.n == document.pairs
    assert f"CAD {row.cad.value:.3f}" in said


def test_the_picture_is_drawn_from_the_document(job: Job, found: tuple[CircuitDocument, str]) -> None:
    assert job.svg is not None
    text = job.svg.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert text == render_circuit(found[0].map, notes(found[0]))
    assert "before the edit" in text
    assert found[0].after is not None
    assert f"CAD {found[0].after.divergences[0].cad.value:.3f}" in text


def test_the_same_model_has_not_diverged(job: Job, tmp_path: Path) -> None:
    document, _ = report(replace(job, out=tmp_path / "c.json", svg=None, after=job.model), steps=quiet())
    assert document.after is not None
    for row in document.after.divergences:
        assert (row.cad.value, row.mass) == (0, 1)
        assert row.rho.value == pytest.approx(1)
    assert document.map.after == document.map.before
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def _wrong_shape(job: Job, folder: Path) -> Job:
    return replace(job, after=c.save_base(c.random_model(layers=2), folder / "other"))


def _ignorant(job: Job, folder: Path) -> Job:
    """Clean and corrupt prompts exchanged: the model says the answers where they are wrong."""
    lines = facts()[::2]
    others = [*lines[1:], lines[0]]
    turned = [line | {"prompt": o["prompt"], "corrupt": line["prompt"]} for line, o in zip(lines, others, strict=True)]
    return replace(job, forget=r.write(folder / "turned.jsonl", turned), after=None)


REFUSALS: dict[str, tuple[str, Callable[[Job, Path], Job]]] = {
    "no folder for the output": ("ME242", lambda job, folder: replace(job, out=folder / "none" / "c.json")),
    "one name for both": ("ME242", lambda job, _: replace(job, svg=job.out)),
    "the set as output": ("ME242", lambda job, _: replace(job, svg=job.forget)),
    "an output in the model": ("ME242", lambda job, _: replace(job, out=job.model / "config.json")),
    "an output that is a folder": ("ME242", lambda job, folder: replace(job, svg=folder)),
    "no set": ("ME201", lambda job, folder: replace(job, forget=folder / "none.jsonl")),
    "no model": ("ME210", lambda job, folder: replace(job, model=folder / "none")),
    "no edited model": ("ME210", lambda job, folder: replace(job, after=folder / "none")),
    "another shape": ("ME241", _wrong_shape),
    "prose to forget": (
        "ME200",
        lambda job, folder: replace(job, forget=r.write(folder / "p.jsonl", [{"text": "once upon a time"}])),
    ),
    "nothing to pair": (
        "ME212",
        lambda job, folder: replace(
            job, forget=r.write(folder / "one.jsonl", [{**facts()[0], "alternatives": [c.capital(1)]}])
        ),
    ),
    "one answer alone": (
        "ME214",
        lambda job, folder: replace(job, forget=r.write(folder / "one.jsonl", facts()[:1])),
    ),
    "an unknown set": ("ME211", _ignorant),
}


@pytest.mark.parametrize("which", REFUSALS)
def test_misuse_is_refused_and_leaves_nothing(which: str, job: Job, tmp_path: Path) -> None:
    identity, change = REFUSALS[which]
    outputs = replace(job, out=tmp_path / "c.json", svg=tmp_path / "c.svg")
    with pytest.raises(UsageError) as caught:
        report(change(outputs, tmp_path), steps=quiet())
    assert caught.value.id == identity
    assert not list(tmp_path.glob("c.*"))
    assert not list(tmp_path.glob(".c.*"))


def test_the_command_exits_as_documented(job: Job, tmp_path: Path) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "mansu.cli", "circuit", *map(str, words)]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    good = run(job.model, "--forget", job.forget, "--out", tmp_path / "c.json", "--pairs", 4)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("circuit: ")
    assert "Attributing edges" in good.stderr
    bad = run(job.model, "--forget", job.forget, "--out", tmp_path / "c.json", "--faithfulness", 1.5)
    assert bad.returncode == 2
    refused = run(job.model, "--forget", job.forget, "--out", tmp_path / "none" / "c.json")
    assert (refused.returncode, refused.stderr[:5]) == (2, "ME242")
