"""The edit of a circuit: what of the configuration the solver is given."""

from mansu.circuit_edit import schedule_of
from mansu.config import Config
from mansu.floors import Floor
from mansu.solve import Schedule


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
