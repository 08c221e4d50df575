"""Progress on stderr: one bar a step, with a time estimate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]
"""Called with the number of items just finished."""


def counting(advance: Advance) -> Callable[[int, int], None]:
    """Return a callback that is told how far a step is, of how much, and advances by what is new."""
    seen = 0

    def progress(done: int, _: int) -> None:
        nonlocal seen
        advance(done - seen)
        seen = done

    return progress


class Steps:
    """Shows the steps of a run, one after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Show one step; the caller advances it. Without a total the bar only shows that work goes on.

        A step that goes on beyond its total has that many.
        """
        with Progress(
            TextColumn("{task.description:<38}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        ) as progress:
            progress.add_task(title, total=total)
            (task,) = progress.tasks

            def advance(count: int) -> None:
                progress.advance(task.id, count)
                if task.total is not None and task.completed > task.total:
                    progress.update(task.id, total=task.completed)

            yield advance
            if task.total is not None:
                progress.update(task.id, completed=task.total)

    def say(self, text: str) -> None:
        """Print one line of explanation."""
        self._console.print(text, highlight=False, markup=False)
