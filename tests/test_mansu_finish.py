"""The finish: what may not be exceeded where the snapped edit met the target, and where it missed it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mansu.solve.finish import finishing
from mansu.solve.finish.finishing import exchange, minimal
from mansu.solve.frontier import Measurement

TARGET = Measurement(0.1, None, 0.1)
MET, BETTER = Measurement(0.05, 0.02, 0.05), Measurement(0.04, 0.01, 0.04)
MISSED, MISSED_NF4 = Measurement(0.3), Measurement(0.05, 0.02, 0.3)


class Scene:
    """Trials that measure `measured` whatever is done, and keep what they were asked not to exceed."""

    def __init__(self, measured: Measurement) -> None:
        self.ceilings: list[Measurement] = []
        self.kept: list[bool] = []
        self.restored = 0
        self._measured = measured
        stopping = SimpleNamespace(limit=TARGET.forget)
        self.trials: Any = SimpleNamespace(
            model=None, target=TARGET, stopping=stopping, measure=self._measure, record=self._record
        )
        self.masked: Any = SimpleNamespace(changed=5, state=lambda: "before", restore=self._restore)
        evaluation = SimpleNamespace(values=lambda _: (0.0, 0.0))
        self.how: Any = SimpleNamespace(
            validation=evaluation, swap_rounds=1, polish_rounds=0, minimal_trials=1, say=lambda _: None
        )

    def _measure(self, ceiling: Measurement) -> Measurement:
        self.ceilings.append(ceiling)
        return self._measured

    def _record(self, _phase: str, _changed: int, _found: Measurement, *, kept: bool) -> None:
        self.kept.append(kept)

    def _restore(self, _state: str) -> None:
        self.restored += 1


@pytest.fixture(autouse=True)
def _without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what needs gradients: the order of the moves, and the moves."""
    better = SimpleNamespace(kept=3, value=0.5)
    monkeypatch.setattr(finishing, "curvature", lambda *_: torch.zeros(5))
    monkeypatch.setattr(finishing, "least_useful", lambda *_: torch.arange(5))
    monkeypatch.setattr(finishing, "shrink", lambda _masked, _order, enough, **_: int(enough()))
    monkeypatch.setattr(finishing, "swap", lambda *_, **__: (1.0, better))


@pytest.mark.parametrize(
    ("found", "after", "ceilings"),
    [
        (MET, MET, [MET]),
        (MET, BETTER, [MET]),  # what polish won may be spent
        (MISSED, BETTER, [BETTER]),
        (MISSED_NF4, MET, [MET]),
        (MISSED, MISSED_NF4, []),
        (MET, MISSED, []),
    ],
)
def test_what_is_given_back_stays_below_what_met_the_target(
    found: Measurement, after: Measurement, ceilings: list[Measurement]
) -> None:
    scene = Scene(BETTER)
    minimal(scene.masked, scene.trials, found, after, scene.how)
    assert scene.ceilings == ceilings


@pytest.mark.parametrize(
    ("found", "measured", "retain", "kept"),
    [
        (MET, BETTER, MET.retain, True),
        (MET, MISSED, MET.retain, False),
        (BETTER, MET, BETTER.retain, False),  # at more retention than it cost
        (MISSED, MISSED, None, True),  # nothing was met that could be lost
        (MISSED_NF4, MET, None, True),
    ],
)
def test_an_exchange_keeps_a_target_that_was_met(
    found: Measurement, measured: Measurement, retain: float | None, kept: bool
) -> None:
    scene = Scene(measured)
    after = exchange(scene.masked, scene.trials, found, scene.how, budget=1.0)
    assert scene.ceilings == [Measurement(TARGET.forget, retain, TARGET.forget)]
    assert (scene.kept, scene.restored) == ([kept], int(not kept))
    assert after == (measured if kept else found)
