"""Progress: a bar a step, which grows where a step goes on beyond its total."""

import io

import pytest
from rich.console import Console

from mansu.progress import Steps, counting


def shown(done: list[int], total: int | None) -> str:
    """Return what a step leaves on a terminal."""
    out = io.StringIO()
    with Steps(Console(file=out, force_terminal=True, width=100)).step("Training", total) as advance:
        for count in done:
            advance(count)
    return out.getvalue()


@pytest.mark.parametrize(("done", "last"), [([1, 1], "2/2"), ([1], "2/2"), ([2, 1, 1], "4/4")])
def test_a_bar_ends_full_and_says_how_many_there_were(done: list[int], last: str) -> None:
    assert last in shown(done, 2).rpartition("Training")[2]


def test_a_callback_that_is_told_how_far_it_is_advances_by_what_is_new() -> None:
    seen: list[int] = []
    tell = counting(seen.append)
    for done in (2, 5, 5):
        tell(done, 9)
    assert seen == [2, 3, 0]
