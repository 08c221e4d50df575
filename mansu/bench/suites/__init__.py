"""Suites: what to forget, what to keep and what to measure it on, for each kind of real knowledge."""

from collections.abc import Callable
from pathlib import Path

from mansu.bench.suites import capitals, elements, languages, opposites
from mansu.bench.suites.suite import Suite
from mansu.demo.sets import write_pair
from verify.errors import UsageError

SUITES: dict[str, Callable[[], Suite]] = {
    "capitals": capitals.suite,
    "elements": elements.suite,
    "languages": languages.suite,
    "opposites": opposites.suite,
}

__all__ = ["SUITES", "Suite", "build_suite", "write_suite"]


def build_suite(name: str) -> Suite:
    """Return a suite by name; raises `UsageError` ME320 for an unknown one."""
    if name not in SUITES:
        raise UsageError(
            "there is no such suite",
            expected=f"one of {', '.join(SUITES)}; of `mansu bench` also authors",
            found=repr(name),
            remedy="choose one of them, or give a forget and a retain set of your own",
            error_id="ME320",
        )
    return SUITES[name]()


def write_suite(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a suite's forget.jsonl and retain.jsonl to `folder` and return their paths.

    Raises `UsageError` ME320 (unknown suite), ME200 (the folder cannot be written).
    """
    suite = build_suite(name)
    return write_pair(folder, suite.forget, suite.retain)
