"""The tuner: its rule, where its grid goes, and that what it reports is what it would write."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, Self

import pytest
import tiny_baselines as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mansu.baselines import METHODS, NPO, SSD, Attempt, BaselineData, Budget, GradientAscent, Sweep, run, tuning
from mansu.baselines.method import Editor
from mansu.baselines.tuning import MOST_RATES, RETENTION_LOSS, Search, next_place
from mansu.baselines.weights import bin_width_over_update, changed, edited_weights, put
from mansu.cost import Cost
from mansu.data.examples import answer_accuracy
from verify.errors import UsageError

QUICK = Budget(steps=6)


def quiet(_: int) -> None: ...


def test_a_sweep_ends_by_the_rule_and_reports_what_it_would_write() -> None:
    known = tiny.known()
    data = known.data
    seen: list[int] = []
    found = run(NPO(), data, known.fresh, 0, budget=QUICK, progress=seen.append)
    assert sum(seen) == len(found.attempts)
    rates = [a.strength for a in found.attempts]
    assert rates == sorted(rates)
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([2.0] * (len(rates) - 1))
    assert not found.at_edge
    # which rate is the best differs between processors, whose rounding trains other models
    assert found.strength < rates[-1]
    assert found.strength > rates[0] or found.best.forget == 1
    assert found.base_forget == found.base_retain == 1
    # the rule, once more in other words
    sound = [a for a in found.attempts if a.retain >= 1 - RETENTION_LOSS]
    assert found.best in sound
    assert found.best.forget == min(a.forget for a in sound)
    assert min(a.forget for a in found.attempts) < 1
    # measured is what is stored
    model = known.fresh()
    put(model, found.weights)
    assert {weight.dtype for weight in found.weights.values()} == {torch.bfloat16}
    assert answer_accuracy(model, data.forget_validation) == found.best.forget
    assert answer_accuracy(model, data.retain_validation) == found.best.retain
    before = edited_weights(known.fresh(), torch.bfloat16)
    assert found.bin_width_over_update == bin_width_over_update(before, found.weights) > 1
    parameters = sum(p.numel() for p in model.parameters())
    assert found.share_changed == changed(before, found.weights) / parameters > 0
    assert found.cost.cpu_seconds >= sum(a.cost.cpu_seconds for a in found.attempts) > 0
    # the same again: nothing but the seed decides
    again = known.fresh()
    NPO().edit(again, data, found.strength, QUICK, 0)
    assert changed(found.weights, edited_weights(again, torch.bfloat16)) == 0


def test_validation_prompts_are_not_trained_on() -> None:
    known = tiny.known()
    data = known.data

    class Watched(GradientAscent):
        def edit(self, model: Any, data: BaselineData, strength: float, budget: Budget, seed: int) -> None:
            heard: list[tuple[int, ...]] = []
            handle = model.register_forward_pre_hook(
                lambda _m, _a, k: heard.extend(map(tuple, k["input_ids"].tolist())), with_kwargs=True
            )
            super().edit(model, data, strength, budget, seed)
            handle.remove()
            trained.extend(heard)

    trained: list[tuple[int, ...]] = []
    for method in (Watched(),):
        method.edit(known.fresh(), data, 1e-3, QUICK, 0)
    assert trained
    rows = {" ".join(map(str, row)) for row in trained}
    for prompts, wanted in ((data.forget, True), (data.forget_validation, False), (data.retain_validation, False)):
        assert any(" ".join(map(str, ids)) in row for ids in prompts.ids for row in rows) is wanted


class Wild(GradientAscent):
    """Rates that break the model, and then some that do not."""

    sweep: ClassVar[Sweep] = Sweep("learning rate", 1e25, factor=1e4, count=2)


class Hopeless(GradientAscent):
    sweep: ClassVar[Sweep] = Sweep("learning rate", 1e30, factor=1.0, count=2)


def test_a_broken_model_is_no_result() -> None:
    known = tiny.known()
    found = run(Wild(), known.data, known.fresh, 0, budget=QUICK, progress=quiet)
    assert [a.broken for a in found.attempts].count(True) > 1
    assert not found.best.broken
    assert all(weight.isfinite().all() for weight in found.weights.values())
    with pytest.raises(UsageError) as caught:
        run(Hopeless(), known.data, known.fresh, 0, budget=Budget(steps=2), progress=quiet)
    assert caught.value.id == "ME282"


def test_variants_are_swept_each_and_the_best_is_kept() -> None:
    known = tiny.known()
    found = run(SSD(batch=40), known.data, known.fresh, 0, budget=Budget(steps=2), progress=quiet)
    tried = [a.method for a in found.attempts]
    assert set(tried) == set(SSD(batch=40).variants())
    assert found.method in tried
    assert [a.strength for a in found.attempts if a.method == tried[0]][:2] == [160.0, 80.0]
    sound = [a for a in found.attempts if a.retain >= found.base_retain - RETENTION_LOSS]
    assert found.best.forget == min(a.forget for a in sound)


def test_what_all_rates_share_is_made_once_and_belongs_to_the_cost_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tiny.known()
    budget = Budget(steps=2)

    class Counted(SSD):
        def variants(self) -> tuple[Self, ...]:
            return (self,)

        def editor(self, fresh: Callable[[], Any], data: BaselineData, budget: Budget, seed: int) -> Editor:
            made.append(seed)
            return super().editor(fresh, data, budget, seed)

    def dear(work: Callable[[], Editor]) -> tuple[Editor, Cost]:
        return work(), Cost(wall_seconds=1e6, cpu_seconds=2e6, peak_bytes=None)

    monkeypatch.setattr(tuning, "metered", dear)
    made: list[int] = []
    method = Counted(batch=40)
    found = run(method, known.data, known.fresh, 0, budget=budget, progress=quiet)
    assert made == [0]
    assert len(found.attempts) >= method.sweep.count
    assert all(1e6 < attempt.cost.wall_seconds < 2e6 < attempt.cost.cpu_seconds for attempt in found.attempts)
    assert found.cost.wall_seconds < 1e6  # what was really spent
    # the same weights as of an edit alone
    model = known.fresh()
    SSD(batch=40).edit(model, known.data, found.strength, budget, 0)
    alone = edited_weights(model, known.data.stored)
    assert all(torch.equal(alone[name], weight) for name, weight in found.weights.items())


@settings(max_examples=50)
@given(
    forget=st.lists(st.integers(0, 10), min_size=40, max_size=40),
    retain=st.lists(st.integers(0, 10), min_size=40, max_size=40),
    broken_from=st.integers(10, 40),
)
def test_the_search_ends_with_the_best_inside_or_says_why(
    forget: list[int], retain: list[int], broken_from: int
) -> None:
    """Arbitrary curves over places −20 to 19, nothing forgotten at the weakest, the strongest broken."""

    def attempt(place: int) -> Attempt:
        i = place + 20
        still = i < 10  # so weak that nothing happens
        return Attempt(
            NPO(), 2.0**place, 1.0 if still else forget[i] / 10, 1.0 if still else retain[i] / 10, i >= broken_from, 0.0
        )

    search = Search(tiny_nothing(), tiny_nothing, 0, Budget(), {}, 1, 1.0, 1.0)
    tried: dict[int, Attempt] = {}
    place: int | None = 0
    best: int | None = None
    while place is not None:
        assert place not in tried
        tried[place] = attempt(place)
        whole = [k for k in tried if not tried[k].broken]
        best = min(whole, key=lambda k: search.order(tried[k], k)) if whole else None
        place = next_place(search, tried, best, 4)
    assert len(tried) <= MOST_RATES
    assert sorted(tried) == list(range(min(tried), max(tried) + 1))
    if len(tried) == MOST_RATES or best is None:
        return
    if best == max(tried):
        pytest.fail("a stronger edit was not tried")
    if best == min(tried):
        assert tried[best].forget == 1.0
    if tried[best].forget == 1.0:
        assert not search.sound(tried[max(tried)])


def tiny_nothing() -> Any:
    return None


def test_every_method_can_be_run_by_name() -> None:
    assert all(name == method.name and method.variants()[0] == method for name, method in METHODS.items())
    assert METHODS["npo"] == NPO(beta=0.1)
    with pytest.raises(ValueError, match="beta"):
        NPO(beta=0)
