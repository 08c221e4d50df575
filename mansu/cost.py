"""What a computation costs: wall clock, processor time, and the peak of resident memory while it ran."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

from verify.contract.schema import Schema

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_T = TypeVar("_T")


class Cost(Schema):
    """What a computation took: wall clock and processor seconds of the process, and its peak resident memory.

    `peak_bytes` is None where the system does not tell. It counts the whole process: what was there before as well.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Meter:
    """A running measurement; call it for what was spent since it began."""

    wall: float
    cpu: float
    resets: bool

    def __call__(self) -> Cost:
        """Return the cost up to now."""
        return Cost(
            wall_seconds=perf_counter() - self.wall,
            cpu_seconds=process_time() - self.cpu,
            peak_bytes=_peak() if self.resets else None,
        )


def meter() -> Meter:
    """Begin to measure. The peak of memory begins anew where the system allows it (Linux); else it is not measured."""
    return Meter(perf_counter(), process_time(), _reset())


def metered(work: Callable[[], _T]) -> tuple[_T, Cost]:
    """Return what `work` returns, and what it cost."""
    spent = meter()
    return work(), spent()


def added(one: Cost, other: Cost) -> Cost:
    """Return the cost of both, one after the other."""
    peaks = [cost.peak_bytes for cost in (one, other) if cost.peak_bytes is not None]
    return Cost(
        wall_seconds=one.wall_seconds + other.wall_seconds,
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        peak_bytes=max(peaks) if peaks else None,
    )


def _reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak() -> int | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
