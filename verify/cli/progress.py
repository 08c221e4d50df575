"""Progress on stderr: one bar a step, with a time estimate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]


@contextmanager
def bars(*, shown: bool = True) -> Iterator[Progress]:
    """Give a function that shows how far each step is; a silent one unless `shown`."""
    if not shown:
        yield lambda _title, _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415  (not needed for help)
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (TextColumn("{task.description:<36}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Bars(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True)) as drawn:
        tasks: dict[str, TaskID] = {}

        def report(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = drawn.add_task(title, total=total)
            drawn.update(tasks[title], completed=done, total=total)

        yield report
