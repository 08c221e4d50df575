"""The edit of a circuit: what of the configuration the solver is given."""

from mansu.circuit_edit import schedule_of, weights_of
from mansu.config import Config
from mansu.floor.fixing import Floor
from mansu.solve.objective import Weights
from mansu.solve.solver import Schedule


def test_the_schedule_is_the_configuration_s() -> None:
    config = Config(
        steps=3,
        steps_between=2,
        extensions=1,
        learning_rate=1e-3,
        rate_after_snap=0.5,
        rate_decay=0.75,
        training_products="float32",
        snaps=(0.5, 1.0),
        floor="levels",
        progressive=False,
    )
    assert schedule_of(config) == Schedule(
        steps=3,
        steps_between=2,
        extensions=1,
        learning_rate=1e-3,
        rate_after_snap=0.5,
        rate_decay=0.75,
        products="float32",
        snaps=(0.5, 1.0),
        floor=Floor("levels", progressive=False),
    )


def test_the_weights_are_the_configuration_s() -> None:
    config = Config(
        prompt_divergence_weight=1.5,
        text_divergence_weight=2.5,
        answer_divergence_weight=3.5,
        answer_shift_weight=0.25,
        answer_level=-1.0,
    )
    assert weights_of(config) == Weights(prompts=1.5, text=2.5, answers=3.5, shift=0.25, level=-1.0)
