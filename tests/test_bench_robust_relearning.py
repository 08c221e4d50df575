from dataclasses import replace

import certificates as c
import pytest
import tiny_robust as t
import torch

from mansu.bench.robust import Recipe, RelearningPoint, curve, halves, relearn
from mansu.data.examples import tokenize
from mansu.request import Split
from verify.errors import UsageError

FAST = Recipe(rate=1e-3, prompts=16, texts=6, length=8, steps=(1, 10, 40))


def test_halves_share_no_fact_and_no_wording() -> None:
    half = halves(t.request(), seed=0)
    a, b = ({fact.fact for fact in part} for part in (half.taught, half.measured))
    assert not a & b
    assert len(a) == len(b) == t.TRAINED // 2
    assert {fact.wording for fact in half.taught} == {0}
    assert {fact.wording for fact in half.measured} == {1}
    assert halves(t.request(), seed=0) == half != halves(t.request(), seed=1)


def test_a_set_of_one_wording_is_taught_whole_and_measured_on_held_out_facts() -> None:
    forget = Split(t.facts(range(20), (0,)), (), (), t.facts(range(20, 30), (0,)))
    half = halves(replace(t.request(), forget=forget), seed=0)
    assert half.taught == forget.train
    assert half.measured == forget.held_out_facts


def test_what_is_taught_comes_back_and_the_model_itself_stays() -> None:
    """The control: measured on the half that is taught (B = A), the curve rises to the top."""
    language = t.forgetful()
    before = {name: value.clone() for name, value in language.model.state_dict().items()}
    taught = halves(t.request(), seed=0).taught
    names = {fact.fact for fact in taught}
    again = [fact for fact in t.request().forget.held_out_wordings if fact.fact in names]
    lesson, measured = (tokenize(language.tokenizer, facts, [c.CAPITALS] * len(facts)) for facts in (taught, again))
    points = curve(language, lesson, measured, kind="facts", seed=0, recipe=FAST)
    assert [point.steps for point in points] == [0, 1, 10, 40]
    assert points[0].estimate.value < 0.4
    assert points[-1].estimate.value > 0.8
    after = language.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in language.model.parameters())


def test_a_model_that_knows_keeps_what_it_is_not_taught() -> None:
    points = relearn(t.knowing(), t.request(), kind="facts", seed=0, recipe=replace(FAST, rate=1e-5, steps=(2,)))
    assert [point.steps for point in points] == [0, 2]
    assert points[0].estimate.value > 0.9
    assert points[1].estimate.value > 0.9
    assert points[1].estimate.n == t.TRAINED // 2


def test_text_is_taught_apart_and_measured_on_everything() -> None:
    recipe = replace(FAST, steps=(3,))
    first, again = (relearn(t.forgetful(), t.request(), kind="text", seed=0, recipe=recipe) for _ in range(2))
    assert first == again
    assert {point.kind for point in first} == {"text"}
    assert {point.estimate.n for point in first} == {t.TRAINED}
    assert first[0].estimate.value < 0.4
    assert RelearningPoint.model_validate_json(first[0].model_dump_json()) == first[0]


def test_no_text_and_a_single_fact_are_refused() -> None:
    with pytest.raises(UsageError) as no_text:
        relearn(t.forgetful(), t.request(prose=False), kind="text", seed=0, recipe=FAST)
    assert no_text.value.id == "ME356"
    one = Split(t.facts((0,), (0,)), (), t.facts((0,), (1,)), ())
    with pytest.raises(UsageError) as single:
        halves(replace(t.request(), forget=one), seed=0)
    assert single.value.id == "ME355"
