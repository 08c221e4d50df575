"""Trials: what is measured, when measuring stops early, and the file that holds them."""

from pathlib import Path

import pytest

from mansu.solve.frontier import Frontier, Measurement, Stopping, Trials, require_folder, write_frontier
from verify.errors import UsageError


def trials(forget: float, retain: float, forget_nf4: float, *, whole: bool = False) -> tuple[Trials, list[str]]:
    asked: list[str] = []

    def answer(what: str, value: float) -> float:
        asked.append(what)
        return value

    stopping = Stopping(
        lambda _: answer("full", forget), lambda _: answer("nf4", forget_nf4), lambda _: answer("kept", retain), 0.1
    )
    return Trials(None, stopping, 1000, whole), asked


@pytest.mark.parametrize(
    ("values", "ceiling", "asked", "within"),
    [
        ((0.2, 0.5, 0.0), Measurement(0.1, None, 0.1), ["full"], False),
        ((0.1, 0.5, 0.2), Measurement(0.1, 0.4, 0.1), ["full", "kept"], False),
        ((0.1, 0.5, 0.2), Measurement(0.1, None, 0.1), ["full", "kept", "nf4"], False),
        ((0.1, 0.4, 0.1), Measurement(0.1, 0.4, 0.1), ["full", "kept", "nf4"], True),
    ],
)
def test_measuring_ends_where_something_exceeds_its_ceiling(
    values: tuple[float, float, float], ceiling: Measurement, asked: list[str], within: bool
) -> None:
    measuring, order = trials(*values)
    found = measuring.measure(ceiling)
    assert order == asked
    assert found.within(ceiling) is within


def test_a_traced_frontier_measures_everything() -> None:
    measuring, order = trials(0.9, 0.5, 0.8, whole=True)
    assert measuring.measure(measuring.target) == Measurement(0.9, 0.5, 0.8)
    assert order == ["full", "kept", "nf4"]


def test_the_file_holds_every_trial(tmp_path: Path) -> None:
    measuring, _ = trials(0.9, 0.5, 0.8)
    measuring.record("snap", 10, measuring.measure(measuring.target), kept=False)
    written = Frontier(parameters=1000, limit=0.1, points=tuple(measuring.points))
    write_frontier(tmp_path / "f.json", written)
    assert Frontier.model_validate_json((tmp_path / "f.json").read_bytes()) == written
    assert written.points[0].share == 0.01
    assert written.points[0].forget_nf4 is None
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


@pytest.mark.parametrize("name", [".", "missing/f.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written there") as caught:
        require_folder(tmp_path / name)
    assert caught.value.id == "ME340"
