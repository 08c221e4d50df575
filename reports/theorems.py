"""The outcome of the proofs as terminal text and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from reports.text import wrap
from verify.contract.theorems import Theorem

_INDENT = "  "


def render_theorems(theorems: Sequence[Theorem], *, width: int = 80) -> str:
    """Return each statement in words, its status, counterexample, constants, method and time, in `width` columns."""
    lines: list[str] = []
    for theorem in theorems:
        lines += [*_theorem(theorem, width), ""]
    return "\n".join([*lines, *wrap(_summary(theorems), width)]) + "\n"


def render_theorems_json(theorems: Sequence[Theorem]) -> str:
    """Return the same as indented ASCII JSON: `holds` for all, and the list under `theorems`."""
    listed = [{**asdict(theorem), "holds": theorem.holds} for theorem in theorems]
    document = {"holds": all(theorem.holds for theorem in theorems), "theorems": listed}
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _theorem(theorem: Theorem, width: int) -> Iterator[str]:
    statement = theorem.statement
    status = theorem.status
    agreement = "as stated" if theorem.holds else f"but stated as {statement.expected}: FAIL"
    yield from wrap(
        f"{statement.name}: {status}, {agreement} ({theorem.seconds:.2f} s)",
        width,
        first=f"{statement.id:<4}",
        rest=_INDENT * 2,
    )
    yield from wrap(statement.words, width, first=_INDENT * 2, rest=_INDENT * 2)
    example = "counterexample" if status == "refuted" else "just beyond it" if status == "proved" else "reason"
    pairs = [(example, theorem.counterexample), *theorem.constants, ("method", theorem.method)]
    for label, text in pairs:
        if text:
            yield from wrap(f"{label}: {text}", width, first=f"{_INDENT * 2}- ", rest=_INDENT * 3)


def _summary(theorems: Sequence[Theorem]) -> str:
    failing = [theorem.statement.id for theorem in theorems if not theorem.holds]
    if failing:
        return f"FAIL: {', '.join(failing)} of {len(theorems)} theorems came out otherwise than stated"
    return f"all {len(theorems)} theorems came out as stated"
