"""When forgetting is enough, and what it costs: accuracy before and after NF4, the answers' lead, the divergence."""

from typing import Any, cast

import pytest
import torch
from tiny_baselines import known

from mansu.config import Config
from mansu.data.prepare import Data
from mansu.solve.frontier import Stopping
from mansu.solve.stopping import accuracy_after_nf4, stopping


def rule(level: float) -> Stopping:
    found = known().data
    data = Data(cast("Any", None), {}, found.forget, found.forget_validation, found.retained)
    return stopping(data, Config(answer_level=level, forget_target=0.1))


def inverted() -> Any:
    """Return the model with every logit's sign turned: what it knew best now stands lowest."""
    model = known().fresh()
    model.lm_head.weight.data.neg_()
    return model


def test_half_of_the_target_is_to_be_reached_on_few_prompts() -> None:
    assert rule(0.0).limit == 0.05


def test_answers_that_lead_are_not_lost_whatever_else_is_met() -> None:
    asked = rule(-1.0)
    assert asked.accuracy(known().fresh()) > 0.5
    assert not asked.lost(known().fresh())
    assert asked.lost(inverted())


def test_where_answers_end_at_their_alternatives_no_lead_is_asked_for() -> None:
    assert rule(0.0).lead is None
    assert rule(0.0).lost(known().fresh())


def test_asking_after_nf4_leaves_every_weight_as_it_was() -> None:
    model = known().fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    accuracy_after_nf4(model, known().data.forget)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_base_diverges_from_itself_by_its_rounding_alone() -> None:
    asked = rule(-1.0)
    assert asked.retained(known().fresh()) == pytest.approx(0.0, abs=1e-3)
    assert asked.retained(inverted()) > 1.0
