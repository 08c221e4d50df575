"""Packed prompts: the logits after each are those of the prompt alone, in every family."""

import pytest
import torch
from test_circuits_families import FAMILIES, VOCABULARY, tiny

from mansu.data.examples import Prompts, last_logits


def some_prompts(lengths: tuple[int, ...]) -> Prompts:
    generator = torch.Generator().manual_seed(0)
    ids = tuple(tuple(torch.randint(0, VOCABULARY, (n,), generator=generator).tolist()) for n in lengths)
    return Prompts(ids, tuple(range(len(ids))), ((0, 1),) * len(ids))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_packed_prompt_sees_itself_alone(name: str) -> None:
    model = tiny(name)
    prompts = some_prompts((5, 1, 9, 3, 7))
    chosen = [2, 0, 4, 1]
    with torch.no_grad():
        packed = last_logits(model, prompts, chosen)
        alone = torch.stack([model(input_ids=torch.tensor([prompts.ids[i]])).logits[0, -1] for i in chosen])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    assert prompts.answers_of(chosen).tolist() == chosen


def test_packs_hold_every_chosen_prompt_once_and_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mansu.data.examples._PACK", 12)
    prompts = some_prompts((5, 20, 9, 3, 7))
    packs = list(prompts.packs([4, 1, 0, 3, 2]))
    assert [pack["input_ids"].shape[1] for pack in packs] == [7, 20, 8, 9]
    assert [pack["logits_to_keep"].tolist() for pack in packs] == [[6], [19], [4, 7], [8]]
    assert packs[2]["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]


def test_a_gpu_is_given_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mansu.data.examples._PACK", 12)
    (pack,) = some_prompts((5, 20, 9, 3, 7)).packs(range(5), device=torch.device("meta"))
    assert pack["input_ids"].shape == (1, 44)
    assert {values.device.type for values in pack.values()} == {"meta"}


def test_filled_rows_have_few_lengths_and_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mansu.data.examples._PACK", 12)
    prompts = some_prompts((5, 20, 9, 3, 7))
    packs = list(prompts.packs([4, 1, 0, 3, 2], multiple=8))
    assert [pack["input_ids"].shape[1] for pack in packs] == [8, 24, 8, 16]
    assert [pack["logits_to_keep"].tolist() for pack in packs] == [[6], [19], [4, 7], [8]]
    assert packs[3]["position_ids"].tolist() == [[*range(9), *range(7)]]
    assert packs[3]["input_ids"][0, 9:].tolist() == [0] * 7
