"""The permanence matrix on a tiny model that knows facts, and an edit of it that does not."""

import json
import sys
from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from mansu.base import open_base
from mansu.bench.permanence import Pair, PermanenceMatrix, chance, held_out, permanence_matrix
from mansu.bench.permanence_report import Job, permanence, shown
from mansu.progress import Steps
from mansu.request import read_request
from verify.behaviour.loading import Language
from verify.errors import UsageError

MUTED = "model.layers.1.mlp.down_proj.weight"


def forget_lines() -> list[r.Line]:
    """The held-out wording is the one that the tiny model knows."""
    changed = {f"in {name} the capital is": c.held_out_wording(name) for name in c.COUNTRIES}
    return [line | {"prompt": changed.get(str(line["prompt"]), line["prompt"])} for line in r.forget_lines()]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("permanence")
    base = c.save_base(t.trained_model(layers=2), folder / "base")
    edited = c.save_base(c.random_model(), folder / "edited")
    weights = load_file(base / "model.safetensors")
    weights[MUTED] = -weights[MUTED]
    save_file(weights, edited / "model.safetensors", metadata={"format": "pt"})
    return Job(
        base=base,
        edited=edited,
        forget=r.write(folder / "forget.jsonl", forget_lines()),
        retain=r.write(folder / "retain.jsonl", r.retain_lines()),
        quantizers=("nf4", "int8", "gguf-q4_k_m", "hqq"),
        probes=12,
        seed=3,
        out=folder / "matrix.json",
    )


@pytest.fixture(scope="module")
def matrix(job: Job) -> PermanenceMatrix:
    blocked = sys.modules.get("hqq.core.quantize")
    sys.modules["hqq.core.quantize"] = None  # type: ignore[assignment]  # as where it is not installed
    try:
        return permanence(job, steps=Steps(Console(quiet=True)))
    finally:
        if blocked is None:
            del sys.modules["hqq.core.quantize"]
        else:
            sys.modules["hqq.core.quantize"] = blocked


def test_every_row_has_both_models_and_the_gap_to_full_precision(matrix: PermanenceMatrix) -> None:
    full, *rows = matrix.rows
    assert [row.quantizer for row in rows] == ["nf4", "int8", "gguf-q4_k_m", "hqq"]
    assert full.forget is not None
    assert full.forget.gap.value == full.forget.gap_base.value == 0
    for row in rows[:3]:
        assert row.forget is not None
        assert row.retain is not None
        assert row.forget.base.n == row.retain.base.n == 12
        assert row.forget.gap.value == pytest.approx(row.forget.edited.value - full.forget.edited.value)
        assert row.forget.gap_base.value == pytest.approx(row.forget.base.value - full.forget.base.value)


def test_the_control_says_whether_the_base_still_knows(matrix: PermanenceMatrix) -> None:
    for row in matrix.rows[:4]:
        assert row.forget is not None
        assert row.control == (row.forget.base.low > matrix.forget_chance)
    assert matrix.rows[0].control


def test_edits_are_counted_where_they_differ(matrix: PermanenceMatrix) -> None:
    """The edit is a change of sign, which every one of these formats keeps almost whole."""
    assert matrix.edited_parameters == 64 * 128
    for row in matrix.rows[1:4]:
        assert row.quantized_edits == matrix.edited_parameters
        assert row.differing is not None
        assert 0.9 * row.quantized_edits < row.differing <= row.quantized_edits
        assert row.realised == pytest.approx(1, abs=0.1)


def test_each_row_proves_that_it_was_quantized(matrix: PermanenceMatrix) -> None:
    for row in matrix.rows[1:4]:
        assert row.proofs
        assert all(proof.changed and proof.distinct <= proof.levels for proof in row.proofs)
    assert {proof.format for proof in matrix.rows[3].proofs} == {"Q5_0", "Q8_0"}


def test_a_missing_package_is_a_row(matrix: PermanenceMatrix) -> None:
    row = matrix.rows[4]
    assert row.state == "not installed"
    assert "ME360" in row.note
    assert row.forget is None


def test_the_file_holds_the_matrix(job: Job, matrix: PermanenceMatrix) -> None:
    assert job.out is not None
    data = json.loads(job.out.read_text())
    assert data["schema_"] == "urn:mansu:permanence/v1"
    assert PermanenceMatrix.model_validate_json(job.out.read_bytes()) == matrix


@pytest.mark.parametrize("markdown", [False, True])
def test_the_table_names_every_quantizer_and_every_format(matrix: PermanenceMatrix, markdown: bool) -> None:
    text = shown(matrix, markdown=markdown)
    assert all(
        word in " ".join(text.split()) for word in ("nf4" if not markdown else "NF4", "not installed", "Q5_0", "chance")
    )
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80 or markdown


def test_small_edits_are_seen_by_fine_formats_and_hardly_by_coarse_ones(job: Job) -> None:
    """One step of bfloat16, 0.1 to 0.4 % of a block's absmax: a good part of a step of Q8_0, little of a bin of NF4."""
    base = open_base(job.base).language()
    edited = open_base(job.base).language()
    weight = edited.model.get_parameter(MUTED)
    size = weight.abs().reshape(-1, 64)
    middle = ((size > 0.25 * size.amax(1, keepdim=True)) & (size < 0.5 * size.amax(1, keepdim=True))).reshape(
        weight.shape
    )
    bits = weight[middle].bfloat16().view(torch.int16) + 1
    weight[middle] = bits.view(torch.bfloat16).float()
    asked = held_out(read_request(job.forget, job.retain, seed=3), base.tokenizer, limit=4, seed=3)
    _, fine, coarse = permanence_matrix(Pair(base, edited, torch.bfloat16), asked, ["gguf-q8_0", "nf4"])
    edits = int(middle.sum())
    assert fine.quantized_edits == coarse.quantized_edits == edits
    assert fine.differing is not None
    assert coarse.differing is not None
    assert coarse.differing < 0.1 * edits < fine.differing


def test_probes_are_held_out_and_limited(job: Job) -> None:
    request = read_request(job.forget, job.retain, seed=3)
    tokenizer = c.tokenizer()
    asked = held_out(request, tokenizer, limit=5, seed=3)
    trained = {fact.prompt for fact in request.forget.train}
    assert len(asked.forget) == len(asked.retain) == 5
    assert not trained & {choice.prompt for choice in asked.forget}
    assert asked == held_out(request, tokenizer, limit=5, seed=3)
    assert chance(asked.forget, asked, tokenizer) == pytest.approx(1 / len(c.CAPITALS))


def test_a_model_and_itself_are_no_pair(job: Job) -> None:
    base = open_base(job.base).language()
    with pytest.raises(UsageError, match="not a model and its edit") as refused:
        Pair(base, Language(base.model, base.tokenizer), torch.bfloat16).edits()
    assert refused.value.id == "ME365"


def test_other_shapes_are_no_pair(job: Job, tmp_path: Path) -> None:
    other = open_base(c.save_base(c.random_model(layers=1), tmp_path / "other")).language()
    with pytest.raises(UsageError, match="not a model and its edit"):
        Pair(open_base(job.base).language(), other, torch.bfloat16).edits()


def test_nothing_held_out_is_refused(tmp_path: Path) -> None:
    line: r.Line = {"prompt": "the capital of X is", "answer": "Y"}
    forget = r.write(tmp_path / "forget.jsonl", [line])
    retain = r.write(tmp_path / "retain.jsonl", [{"prompt": "the colour of X is", "answer": "Z"}])
    with pytest.raises(UsageError, match="held out") as refused:
        held_out(read_request(forget, retain, seed=0), c.tokenizer(), limit=5, seed=0)
    assert refused.value.id == "ME364"
