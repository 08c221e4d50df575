"""The relearning study, at tiny sizes: its world, its methods' stops, what it measures, and its statistics."""

import copy
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.relearning import methods
from benchmarks.relearning.correlation import agreement, exchange, ranks, spearman
from benchmarks.relearning.data import Shape, World, make_tokenizer, make_world
from benchmarks.relearning.measuring import Attack, Circuits, Measured, Point, Yardstick, make_yardstick, measure
from benchmarks.relearning.table import BASE, markdown, write
from benchmarks.relearning.training import Recipe, new_model, train
from mansu.data.examples import answer_accuracy
from mansu.progress import Steps

SHAPE = Shape(people=16, answers=4, filler=60)
RECIPE = Recipe(layers=4, width=32, inner=64, heads=2, steps=4, batch=16)
ATTACK = Attack(batch=8, checkpoints=(0, 1, 2))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, SHAPE)


@pytest.fixture(scope="module")
def task(world: World) -> methods.Task:
    tokenizer = make_tokenizer(world)
    base = new_model(tokenizer, RECIPE, 0).eval().requires_grad_(requires_grad=False)
    return methods.make_task(world, tokenizer, base, target=0.5, seed=0)


@pytest.fixture(scope="module")
def yardstick(world: World, task: methods.Task) -> Yardstick:
    return make_yardstick(world, task.tokenizer, task.base, late_from=3, seed=0)


def test_half_a_says_nothing_of_half_b(world: World) -> None:
    a, b, rest = ({fact.fact for fact in facts} for facts in (world.half_a, world.half_b, world.retain))
    assert not a & b
    assert not (a | b) & rest
    answers = [Counter(fact.answer for fact in half if fact.wording == 0) for half in (world.half_a, world.half_b)]
    assert answers[0] == answers[1] == dict.fromkeys(world.pools["forgotten city"], 1)
    forgotten = set(world.pools["forgotten city"])
    assert not forgotten & {fact.answer for fact in world.retain}
    assert forgotten <= {word for text in world.filler for word in text.split()}


def test_the_gold_control_is_shown_no_forget_fact(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    from benchmarks.relearning import training

    def spy(tokenizer: Any, texts: list[str]) -> Any:
        seen[:] = texts
        return rows_of(tokenizer, texts)

    rows_of = training.rows_of
    monkeypatch.setattr(training, "rows_of", spy)
    tokenizer = make_tokenizer(world)
    for with_forget in (True, False):
        train(world, tokenizer, RECIPE, 0, with_forget=with_forget)
        shown = {fact.fact for fact in world.forget if f"{fact.prompt} {fact.answer}" in seen}
        assert shown == ({fact.fact for fact in world.forget} if with_forget else set())
        assert len(seen) == len(set(seen)) or with_forget


def test_a_method_changes_its_place_alone_and_stops_at_the_target(task: methods.Task) -> None:
    for place, wanted in (
        ("read-out", {"lm_head.weight"}),
        ("last MLP", {f"model.layers.3.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}),
    ):
        model, taken = methods.suppress(place, replace(task, target=-1.0, limit=2))
        before, after = task.base.state_dict(), model.state_dict()
        assert {name for name in before if not torch.equal(before[name], after[name])} == wanted
        assert taken == 2
    assert answer_accuracy(task.base, task.watched) <= task.target
    assert methods.suppress("read-out", task)[1] == 0


@pytest.mark.parametrize("method", ["graddiff", "npo", "gradient ascent"])
def test_baselines_lower_the_answers_probability(task: methods.Task, method: str) -> None:
    model, taken = methods.baseline(method, replace(task, target=-1.0, limit=3))
    assert taken == 3
    before, after = (float(methods.reference_log_probabilities(one, task.forget).mean()) for one in (task.base, model))
    assert after < before


def test_the_engine_runs_on_the_request_that_the_others_get(task: methods.Task, tmp_path: Path) -> None:
    quick = {"steps": 2, "steps_between": 1, "snaps": (0.6, 1.0), "fisher_batches": 1, "sampled_texts": 4}
    quick |= {"attribution_pairs": 8, "circuit_pairs": 4, "forget_known": 0.0, "entry_share": 0.0, "forget_target": 0.0}
    model, changed = methods.engine(task, tmp_path, quick, steps=Steps(Console(quiet=True)))
    before, after = task.base.state_dict(), model.state_dict()
    assert changed == sum(int((before[name] != after[name]).sum()) for name in before)
    assert methods.engine_config(task, {}).mask_share == 0.05


def test_measures_the_base_as_itself_and_the_read_out_as_late(yardstick: Yardstick, task: methods.Task) -> None:
    base = measure(BASE, task.base, 0, yardstick, ATTACK)
    assert (base.circuits.cad, base.circuits.cad_late, base.circuits.cad_retain) == (0, 0, 0)
    assert base.circuits.rho == pytest.approx(1)
    assert [point.steps for point in base.relearned["half A"]] == [0, 1, 2]
    muted = copy.deepcopy(task.base)
    muted.lm_head.weight.mul_(0.1)
    found = measure("muted", muted, 0, yardstick, ATTACK).circuits
    assert (found.cad, found.cad_late) == (pytest.approx(0.9, abs=1e-3), pytest.approx(0, abs=1e-6))
    assert found.mass == pytest.approx(0.1, abs=1e-3)


def test_relearning_teaches_a_copy(yardstick: Yardstick, task: methods.Task) -> None:
    before = {name: value.clone() for name, value in task.base.state_dict().items()}
    fast = Attack(learning_rate=1e-2, batch=16, checkpoints=(0, 20))
    found = measure(BASE, task.base, 0, yardstick, fast)
    first, last = found.relearned["half A"]
    assert last.log_probability_a > first.log_probability_a + 1
    assert all(torch.equal(value, before[name]) for name, value in task.base.state_dict().items())


def made_up(model: str, seed: int, cad: float, area: float) -> Measured:
    curve = tuple(
        Point(steps=s, accuracy_a=area, accuracy_b=area, log_probability_a=-1.0, log_probability_b=-1.0)
        for s in (0, 1, 5)
    )
    return Measured(
        model=model,
        seed=seed,
        effort=0,
        forget=0.05,
        forget_nf4=0.05,
        forget_held_out=0.05,
        margin=0.0,
        retain=1.0,
        retain_nf4=1.0,
        circuits=Circuits(cad=cad, cad_late=cad, rho=0.0, rho_late=0.0, mass=0.1, cad_retain=0.1),
        relearned={"half A": curve, "other text": curve},
    )


def test_areas_and_steps_leave_out_the_start() -> None:
    points = [(0, 1.0), (1, 0.0), (5, 0.5)]
    curve = tuple(
        Point(steps=s, accuracy_a=0.0, accuracy_b=b, log_probability_a=0.0, log_probability_b=0.0) for s, b in points
    )
    one = made_up("x", 0, 0.5, 0.5).model_copy(update={"relearned": {"half A": curve}})
    assert one.area("b") == 0.25
    assert one.steps_to(0.5, "b") == 0
    assert one.steps_to(0.2, "a") is None


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12))
def test_ranks_share_their_ties(values: list[int]) -> None:
    found = ranks(np.array(values, dtype=np.float64))
    assert found.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
    for value, rank in zip(values, found, strict=True):
        below, same = sum(v < value for v in values), values.count(value)
        assert rank == below + (same + 1) / 2


def test_spearman_knows_order_alone() -> None:
    x = np.array([1.0, 2.0, 3.0, 10.0])
    assert spearman(x, x**3) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert spearman(x, np.ones(4)) == 0


def test_exchanging_methods_counts_methods_not_seeds() -> None:
    rng = np.random.default_rng(0)
    x = np.tile(np.arange(5.0), (7, 1))
    # one order of 5! in the same direction, one in the other, however many seeds agree
    assert exchange(x, x, rng) == pytest.approx(2 / 120)
    assert exchange(x, np.ones((7, 5)), rng) == 1


CADS = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 0.9}


def test_agreement_over_models_and_seeds() -> None:
    found = [made_up(name, seed, cad, 1 - cad) for seed in range(3) for name, cad in CADS.items()]
    row = agreement(found, ("CAD", lambda one: one.circuits.cad), ("B", lambda one: one.area("b")))
    assert (row.methods, row.seeds) == (4, 3)
    assert row.within == row.low == row.high == pytest.approx(-1)
    assert row.pooled == pytest.approx(-1)
    assert row.same_method == 0  # the seeds of one method do not differ


def test_one_seed_says_nothing_of_the_spread(tmp_path: Path) -> None:
    found = [made_up(name, 0, cad, 1 - cad) for name, cad in CADS.items()]
    row = agreement(found, ("CAD", lambda one: one.circuits.cad), ("B", lambda one: one.area("b")))
    assert (row.low, row.high, row.same_method, row.p_seeds) == (None, None, None, None)
    write(found, tmp_path, {})
    assert "| what returns on B | CAD | -1.00 |  |" in (tmp_path / "table.md").read_text()


def test_writes_a_table_numbers_and_curves(tmp_path: Path) -> None:
    found = [made_up(name, seed, 0.1 * i, 0.2) for seed in (0, 1) for i, name in enumerate((BASE, "x", "y", "z"))]
    write(found, tmp_path, {"target": 0.08})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.svg", "results.json", "table.md"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert [Measured.model_validate(one, strict=False) for one in results["models"]] == found
    assert {row["methods"] for row in results["correlations"]} == {3}
    assert "| x | 0.050 ± 0.000 |" in markdown(found)
    first = (tmp_path / "curves.svg").read_bytes()
    assert b"half" not in first
    write(found, tmp_path, {})
    assert (tmp_path / "curves.svg").read_bytes() == first
