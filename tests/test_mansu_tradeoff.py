"""`mansu tradeoff` on tiny models: the bounds hold for what edits do, the files are whole, and misuse is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import certificates as c
import numpy as np
import pytest
import requests_tiny as r
import torch
from rich.console import Console

from mansu.base import open_base, quantized_weights
from mansu.baselines import export
from mansu.config import Config
from mansu.progress import Steps
from mansu.tradeoff import measure as t
from mansu.tradeoff.report import figure, report, tables
from verify.artefact import as_torch
from verify.errors import UsageError
from verify.nf4 import quantize

QUICK = Config(sampled_texts=4, text_length=8, fisher_batches=2)


def quiet() -> Steps:
    return Steps(Console(quiet=True))


@pytest.fixture(scope="module")
def dense(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with a little noise on every quantized weight."""
    base = open_base(tiny_base)
    generator = torch.Generator().manual_seed(5)
    weights = {
        name.removesuffix(".weight"): weight.float() + torch.randn(weight.shape, generator=generator) * 1e-3
        for name, weight in quantized_weights(base).items()
    }
    folder = tmp_path_factory.mktemp("baselines") / "graddiff"
    export(folder, base, weights)
    return folder


@pytest.fixture(scope="module")
def found(
    tiny_base: Path, dense: Path, tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory
) -> t.Tradeoff:
    retain = r.write(tmp_path_factory.mktemp("retain") / "retain.jsonl", r.retain_lines())
    updates = {"dense": dense, "mansu": tiny_certificate.out / "model", "nothing": tiny_base}
    return t.tradeoff(tiny_base, updates, retain, QUICK, steps=quiet())


def test_an_exported_baseline_is_its_base_but_for_the_edited_weights(tiny_base: Path, dense: Path) -> None:
    base, edited = open_base(tiny_base), open_base(dense)
    assert base.others == edited.others
    assert sorted(path.name for path in dense.parent.iterdir()) == ["graddiff"]
    linears = quantized_weights(base).keys()
    for name in base.weights.tensors():
        before, after = (as_torch(b.weights.holder(name), name) for b in (base, edited))
        assert torch.equal(before, after) == (name not in linears)
    export(dense.parent / "again", base, {})
    assert {p.name: p.read_bytes() for p in (dense.parent / "again").iterdir()} == {
        p.name: p.read_bytes() for p in tiny_base.iterdir()
    }


def test_only_weights_that_nf4_quantizes_count(tiny_base: Path, found: t.Tradeoff) -> None:
    weights = quantized_weights(open_base(tiny_base))
    assert all(name.endswith("_proj.weight") for name in weights)
    assert found.parameters == sum(w.numel() for w in weights.values())


def test_updates_are_measured_as_they_are(
    tiny_base: Path, dense: Path, tiny_certificate: c.Certificate, found: t.Tradeoff
) -> None:
    base, edited = (quantized_weights(open_base(folder)) for folder in (tiny_base, dense))
    noisy, mansu, nothing = found.updates
    assert noisy.changed == sum(int((base[n] != edited[n]).sum()) for n in base)
    assert noisy.crossed == sum(int((quantize(base[n]).codes != quantize(edited[n]).codes).sum()) for n in base)
    squares = sum(float(((edited[n].double() - base[n].double()) ** 2).sum()) for n in base)
    assert noisy.norm == pytest.approx(squares**0.5)
    masked = sum(index.numel() for index, _ in tiny_certificate.edits.values())
    assert mansu.changed == mansu.crossed == mansu.five_rows == masked
    assert (nothing.changed, nothing.crossed, nothing.five_rows, nothing.norm, nothing.nats) == (0, 0, 0, 0, 0)
    assert mansu.nats is not None
    assert mansu.nats > 0


def test_bounds_rise_order_and_hold(found: t.Tradeoff) -> None:
    assert [panel.unit for panel in found.panels] == ["norm", "nats"]
    for panel in found.panels:
        counts = {name: np.array(values) for name, values in panel.counts.items()}
        assert all((np.diff(values) >= 0).all() for values in counts.values())
        assert (counts["crossing_fixed_scale"] <= counts["crossing"]).all()
        assert (counts["five_rows_fixed_scale"] <= counts["five_rows"]).all()
        assert (counts["five_rows"] <= counts["crossing"]).all()
        assert counts["crossing"][-1] == found.parameters
        for i, update in enumerate(found.updates):
            assert update.crossed <= panel.at_updates["crossing"][i]
            # the certificate keeps every scale, so the sharper bound holds for it too
            if update.name == "mansu":
                assert 0 < update.five_rows <= panel.at_updates["five_rows_fixed_scale"][i]


def test_an_update_above_its_bound_is_an_internal_error(
    tiny_base: Path, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(t.CURVES, "crossing", lambda weight, **_: np.full(weight.numel(), 1.0))  # type: ignore[arg-type]
    with pytest.raises(t.BoundExceededError, match="dense") as caught:
        t.tradeoff(tiny_base, {"dense": dense}, None, QUICK, steps=quiet())
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_same_numbers_draw_the_same_bytes(found: t.Tradeoff, suffix: str) -> None:
    drawn = figure(found, f".{suffix}")
    assert drawn == figure(found, f".{suffix}")
    assert drawn.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix])


def test_tables_fit_80_columns_however_many_updates(found: t.Tradeoff) -> None:
    many = replace(found.updates[0], name="a" * 100, changed=999_999_999, crossed=999_999_999)
    panels = tuple(
        replace(p, update_budgets=(1.0,) * 7, at_updates=dict.fromkeys(p.at_updates, (999999999,) * 7))
        for p in found.panels
    )
    text = tables(replace(found, updates=(many,) * 7, panels=panels))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("999,999,999") == 7 * 6


def test_a_model_of_zeros_can_be_plotted(found: t.Tradeoff) -> None:
    panels = tuple(replace(p, budgets=(1.0, 10.0), counts=dict.fromkeys(t.CURVES, (0, 0))) for p in found.panels)
    assert figure(replace(found, panels=panels), ".svg").startswith(b"<?xml")


def test_the_command_prints_tables_and_writes_plot_and_numbers(
    tmp_path: Path, tiny_base: Path, tiny_certificate: c.Certificate
) -> None:
    words = ["--update", f"mansu={tiny_certificate.out / 'model'}", "--out", "p.svg", "--json", "n.json"]
    command = [sys.executable, "-m", "mansu.cli", "tradeoff", str(tiny_base), *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.json", "p.svg"]
    numbers = json.loads((tmp_path / "n.json").read_bytes())
    (update,) = numbers["updates"]
    assert f"{update['crossed']:,}" in run.stdout
    assert "plot: p.svg" in run.stdout
    assert 0 < update["crossed"] <= update["bounds"]["norm"]["crossing"]
    assert numbers["quantized_parameters"] == numbers["panels"][0]["largest_counts"]["crossing"][-1]


def other_shape(folder: Path) -> Path:
    return c.save_base(c.random_model(layers=1), folder)


@pytest.mark.parametrize(
    ("updates", "out", "identity", "message"),
    [
        (["npo"], "a.svg", "ME240", "NAME=FOLDER"),
        (["=x"], "a.svg", "ME240", "NAME=FOLDER"),
        (["a=x", "a=y"], "a.svg", "ME240", "one name"),
        ([], "a.gif", "ME240", "kind of figure"),
        ([], "no/where/a.svg", "ME240", "folder does not exist"),
        (["npo=nowhere"], "a.svg", "ME241", "folder does not exist"),
        (["npo=OTHER"], "a.svg", "ME241", "not those of the base"),
        (["npo=EMPTY"], "a.svg", "ME241", "no safetensors"),
    ],
)
def test_misuse_is_refused_and_writes_nothing(
    tmp_path: Path, tiny_base: Path, updates: list[str], out: str, identity: str, message: str
) -> None:
    other = other_shape(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    given = [u.replace("OTHER", str(other)).replace("EMPTY", str(tmp_path / "empty")) for u in updates]
    (tmp_path / "work").mkdir()
    with pytest.raises(UsageError, match=message) as caught:
        report(tiny_base, given, None, QUICK, tmp_path / "work" / out, None, steps=quiet())
    assert caught.value.id == identity
    assert list((tmp_path / "work").iterdir()) == []


def test_a_missing_model_and_a_retain_set_without_facts_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(UsageError) as caught:
        report(tmp_path / "nowhere", [], None, QUICK, tmp_path / "a.svg", None, steps=quiet())
    assert caught.value.id == "ME210"
    prose = r.write(tmp_path / "prose.jsonl", [{"text": "people live in country1 ."}])
    with pytest.raises(UsageError, match="no facts") as caught:
        t.tradeoff(tiny_base, {}, prose, QUICK, steps=quiet())
    assert caught.value.id == "ME201"
