"""What baselines are given: splits without overlap, one stream of batches, and the demo's comparison with them."""

import shutil
from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r
import tiny_baselines as tiny
import torch
from rich.console import Console

from mansu.base import open_base, open_language
from mansu.baselines.data import Budget, baseline_data, batches, split_facts
from mansu.config import Config
from mansu.data.prepare import Data, prepare
from mansu.demo.compare import COMPARED, compare_methods
from mansu.progress import Steps
from mansu.request import Fact, read_request
from verify.errors import UsageError

QUICK = Config(sampled_texts=8, text_length=8, forget_pairs=6, retain_pairs=6, forget_known=0.0)


def quiet() -> Steps:
    return Steps(Console(quiet=True))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return c.save_base(tiny.known().fresh(), tmp_path_factory.mktemp("known") / "base")


def sets(folder: Path, wordings: int) -> tuple[Path, Path]:
    lines = [line for number, line in enumerate(r.forget_lines()) if number % 4 < wordings]
    return r.write(folder / "forget.jsonl", lines), r.write(folder / "retain.jsonl", r.retain_lines())


def prepared(base: Path, folder: Path, wordings: int) -> Data:
    opened = open_base(base)
    language, _ = open_language(opened)
    return prepare(language, opened, read_request(*sets(folder, wordings), seed=0), QUICK, steps=quiet())


def test_sets_are_split_by_facts_and_nothing_held_out_is_used(base: Path, tmp_path: Path) -> None:
    whole = prepared(base, tmp_path, 4)
    assert not whole.request.forget.validation
    data = baseline_data(whole, torch.bfloat16, seed=0)
    forget, aside = set(data.forget.ids), set(data.forget_validation.ids)
    retain, kept_aside = set(data.retained.prompts.ids), set(data.retain_validation.ids)
    assert forget | aside == set(whole.forget.ids)
    assert retain | kept_aside == set(whole.retained.prompts.ids)
    assert not forget & aside
    assert not retain & kept_aside
    assert len(aside) == pytest.approx(0.1 * len(whole.forget), abs=3)
    assert len(kept_aside) == pytest.approx(0.2 * len(whole.retained.prompts), abs=1)
    encode = c.tokenizer()
    request = whole.request
    for fact in (*request.forget.held_out_facts, *request.forget.held_out_wordings, *request.retain.held_out_facts):
        assert tuple(encode(fact.prompt)["input_ids"]) not in forget | aside | retain | kept_aside
    # the base's predictions still belong to their prompts
    place = whole.retained.prompts.ids.index(data.retained.prompts.ids[3])
    assert torch.equal(data.retained.prompt_reference[3], whole.retained.prompt_reference[place])
    assert baseline_data(whole, torch.bfloat16, seed=0).retain_validation == data.retain_validation
    assert baseline_data(whole, torch.bfloat16, seed=1).retain_validation != data.retain_validation


def fact(group: str, name: str) -> Fact:
    return Fact(f"{name} is", name, group, name, 0, (), None)


def test_facts_are_set_aside_whole_and_from_every_kind() -> None:
    facts = [fact("a", f"a{n % 10}") for n in range(30)] + [fact("b", "b0"), fact("b", "b1"), fact("c", "c0")]
    kept, aside = split_facts(facts, 0.2, 0, "retain")
    assert sorted(kept + aside) == list(range(33))
    assert {facts[i].fact for i in kept}.isdisjoint(facts[i].fact for i in aside)
    assert [facts[i].group for i in aside] == ["a"] * 6 + ["b"]
    with pytest.raises(UsageError) as caught:
        split_facts([fact("a", "a0"), fact("b", "b0")], 0.2, 0, "retain")
    assert caught.value.id == "ME280"


def test_batches_are_the_same_for_every_method_of_a_seed() -> None:
    data = tiny.known().data
    first, again, other = (list(batches(data, Budget(steps=3, prompts=8, texts=2), seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert [len(batch.forget) for batch in first] == [8, 8, 8]
    assert [len(batch.texts) for batch in first] == [2, 2, 2]


def test_the_demo_compares_with_graddiff_and_npo(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "certified" / "model")
    table = compare_methods(base, *sets(tmp_path, 4), tmp_path / "certified", QUICK, steps=quiet())
    assert "GradDiff" in table
    assert "NPO" in table
    for name in COMPARED:
        edited = open_base(tmp_path / "baselines" / name)
        assert edited.others == open_base(base).others
        assert edited.digests() != open_base(base).digests()
