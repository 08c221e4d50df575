"""Both models asked, before and after NF4: the same numbers as measured apart, and what is said of them."""

import json
from pathlib import Path

import certificates as c
import jsonschema
import pytest
import torch
from audited import adapter, edited, knowing_model, noisy, sets, silent
from safetensors.torch import load_file
from torch import Tensor

from reports.audit import render_audit_json
from verify.audit import Sets, audit
from verify.behaviour.axes import measure
from verify.behaviour.loading import load, nf4_copy
from verify.behaviour.probes import dump
from verify.behaviour.statistics import paired_difference, proportion
from verify.contract.audit import Audit
from verify.errors import UsageError


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that knows the facts of `certificates`."""
    return c.save_base(knowing_model(), tmp_path_factory.mktemp("knowing") / "base")


@pytest.fixture(scope="module")
def disturbed(knowing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(knowing, tmp_path_factory.mktemp("disturbed") / "edited", noisy(0.03))


@pytest.fixture(scope="module")
def found(knowing: Path, disturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(knowing, disturbed, Sets(*sets(tmp_path_factory.mktemp("sets"))), progress=silent)


def test_rows_are_what_the_models_answer(knowing: Path, disturbed: Path, found: Audit, tmp_path: Path) -> None:
    forget, _ = sets(tmp_path)
    questions = [json.loads(line) for line in forget.read_text().splitlines()]
    row = next(row for row in found.behaviour if row.row == "capitals")
    correct = {}
    for name, folder in (("base", knowing), ("edited", disturbed)):
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".json"}
        language = load(files, load_file(folder / "model.safetensors"))
        for label, model in ((name, language), (f"{name}_nf4", nf4_copy(language, torch.bfloat16))):
            pool = sorted({c.tokenizer().convert_tokens_to_ids(question["answer"]) for question in questions})
            right = []
            for question in questions:
                ids = torch.tensor([c.tokenizer()(question["prompt"])["input_ids"]])
                with torch.no_grad():
                    logits = model.model(input_ids=ids).logits[0, -1]
                right.append(
                    pool[int(logits[pool].argmax())] == c.tokenizer().convert_tokens_to_ids(question["answer"])
                )
            correct[label] = torch.tensor(right)
    for label, answers in correct.items():
        assert getattr(row, label) == proportion(answers)
    assert row.gap == paired_difference(correct["edited_nf4"], correct["edited"])
    assert row.gap_base == paired_difference(correct["base_nf4"], correct["base"])
    assert row.difference == paired_difference(correct["edited"], correct["base"])
    assert row.chance == pytest.approx(1 / 20)


def test_the_schema_admits_what_was_measured(found: Audit) -> None:
    schema = json.loads((Path(__file__).parent.parent / "spec" / "schemas" / "audit.schema.json").read_text())
    value = json.loads(render_audit_json(found))
    jsonschema.Draft202012Validator(schema).validate(value)
    del value["behaviour"][0]["gap"]
    assert not jsonschema.Draft202012Validator(schema).is_valid(value)


def test_all_four_axes_are_there(found: Audit) -> None:
    assert [(row.axis, row.row, row.unit) for row in found.behaviour] == [
        ("forgetting", "capitals", "accuracy"),
        ("retention", "colours", "accuracy"),
        ("retention", "prose", "perplexity"),
    ]
    assert found.erasure is not None
    assert found.erasure.pairs == 40
    assert (found.erasure.layers, found.erasure.late_from) == (3, 2)
    rows = {(row.role, row.precision, row.from_layer): row.cad for row in found.erasure.rows}
    assert rows.keys() == {
        (role, precision, layer)
        for role, precision in (("edited", "full"), ("edited", "nf4"), ("control", "nf4"))
        for layer in (None, 2)
    }
    assert all(0 <= cad.value <= 1 and cad.n == 40 for cad in rows.values())
    assert rows["edited", "full", None].value > rows["control", "nf4", None].value
    assert found.exit_code == 0
    full, nf4 = (getattr(found.behaviour[0], which).value for which in ("edited", "edited_nf4"))
    assert found.headline.endswith(f"from {full:.2f} to {nf4:.2f}.") or full == nf4


def _muted(name: str, weight: Tensor) -> Tensor:
    return weight * torch.linspace(-1, 1, 64).to(weight.dtype) if name == "model.norm.weight" else weight


def test_a_change_of_the_read_out_alone_is_seen(knowing: Path, tmp_path: Path) -> None:
    muted = edited(knowing, tmp_path / "muted", _muted)
    found = audit(knowing, muted, Sets(sets(tmp_path)[0]), progress=silent)
    assert found.erasure is not None
    cads = {
        row.from_layer: row.cad.value for row in found.erasure.rows if (row.role, row.precision) == ("edited", "full")
    }
    assert cads[None] > 0.05
    assert cads[2] == 0  # with the base's read-out nothing is left of it


def test_a_base_that_knows_nothing_decides_nothing(tiny_base: Path, tmp_path: Path) -> None:
    found = audit(tiny_base, edited(tiny_base, tmp_path / "e", noisy(1e-3)), Sets(*sets(tmp_path)), progress=silent)
    assert found.exit_code == 3
    assert "no better than by chance" in found.undecided[0]
    assert found.total.changed > 0


def test_probes_of_a_certificate_and_an_adapter(knowing: Path, tmp_path: Path) -> None:
    folder = tmp_path / "probes"
    folder.mkdir()
    for name, data in dump(c.probes()).items():
        (folder / name).write_bytes(data)
    side = adapter(knowing, tmp_path / "adapter", {"model.layers.1.mlp.down_proj": (64, 128)}, lora_alpha=1)
    found = audit(knowing, side, Sets(probes=folder), progress=silent)
    assert {row.row for row in found.behaviour} >= {"capitals, held-out wordings"}
    assert found.adapter is not None
    files = {path.name: path.read_bytes() for path in knowing.iterdir() if path.suffix == ".json"}
    base = measure(load(files, load_file(knowing / "model.safetensors")), c.probes())
    mine = torch.tensor([choice.axis == "forgetting" for choice in c.probes().choices])
    assert sum(row.base.value * row.base.n for row in found.behaviour if row.axis == "forgetting") == pytest.approx(
        int(base.correct[mine].sum())
    )


def test_questions_that_do_not_fit_the_model_are_an_error_of_usage(knowing: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"prompt": "the flag is " * 100, "answer": "capital1", "alternatives": ["capital2"]}))
    with pytest.raises(UsageError, match="MV301") as caught:
        audit(knowing, knowing, Sets(path), progress=silent)
    assert caught.value.id == "ME294"
