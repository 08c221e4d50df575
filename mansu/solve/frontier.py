"""Trials of an edit: what was measured on the way, and the frontier of change, forgetting and retention they trace."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from verify.artefact import write_atomic
from verify.contract.schema import Schema
from verify.errors import UsageError

Phase = Literal["snap", "exchange", "minimal", "trace"]
"""What was tried: all that was free snapped; swaps and polish; moves returned for good; moves returned to measure."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """How to tell that an edit forgets enough, on nothing that certifies it.

    `accuracy(model)` on the forget set and `accuracy_nf4(model)` after NF4 must not exceed `limit`: on wordings that do
    not train the edit, where the set has enough. `retained(model)` is the divergence from the base in nats on retain
    data that does. `lead(model)`, where it is given, is how far the answers' logits still are above their alternatives'
    on average, and must not be above zero: an accuracy can be met by answers that have lost the first place and little
    else.
    """

    accuracy: Callable[[Any], float]
    accuracy_nf4: Callable[[Any], float]
    retained: Callable[[Any], float]
    limit: float
    lead: Callable[[Any], float] | None = None

    def lost(self, model: Any) -> bool:
        """Return whether the answers stand no higher than their alternatives; where no lead is asked for, they do."""
        return self.lead is None or self.lead(model) <= 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Forget accuracy, the divergence from the base in nats, and forget accuracy after NF4.

    None where an earlier one had already decided, and NF4 is the dearest.
    """

    forget: float
    retain: float | None = None
    forget_nf4: float | None = None

    def within(self, other: "Measurement") -> bool:
        """Return whether all three were measured and none is above the other's."""
        mine, its = (self.forget, self.retain, self.forget_nf4), (other.forget, other.retain, other.forget_nf4)
        return all(a is not None and (b is None or a <= b) for a, b in zip(mine, its, strict=True))


class FrontierPoint(Schema):
    """One trial: how much was changed, and what that came to. None where it was not measured."""

    phase: Phase
    changed: int = Field(description="parameters that differ from the base")
    share: float = Field(description="of all parameters")
    forget: float = Field(
        description="forget accuracy in full precision, on validation wordings (where a set has none, trained ones)"
    )
    forget_nf4: float | None = Field(description="the same after NF4")
    retain_nats: float | None = Field(description="divergence from the base in nats, on retain data trained on")
    kept: bool = Field(description="whether the edit went on from there")


class Frontier(Schema):
    """What `mansu unlearn --frontier` writes: every trial of a run, in order."""

    parameters: int = Field(description="of the model")
    limit: float = Field(description="forget accuracy, before and after NF4, that is enough: half the target")
    points: tuple[FrontierPoint, ...]


@dataclass(slots=True)
class Trials:
    """Measures a model under solution, and keeps what it found. With `whole` nothing is left unmeasured."""

    model: Any
    stopping: Stopping
    parameters: int
    whole: bool = False
    points: list[FrontierPoint] = field(default_factory=list)

    @property
    def target(self) -> Measurement:
        """Return what must not be exceeded for the target to be met."""
        return Measurement(self.stopping.limit, None, self.stopping.limit)

    def measure(self, ceiling: Measurement) -> Measurement:
        """Measure the model as it stands, until something exceeds the ceiling (unless `whole`)."""
        stopping = self.stopping
        forget = stopping.accuracy(self.model)
        if forget > ceiling.forget and not self.whole:
            return Measurement(forget)
        retain = stopping.retained(self.model)
        if ceiling.retain is not None and retain > ceiling.retain and not self.whole:
            return Measurement(forget, retain)
        return Measurement(forget, retain, stopping.accuracy_nf4(self.model))

    def record(self, phase: Phase, changed: int, found: Measurement, *, kept: bool) -> None:
        """Keep a trial's result."""
        point = FrontierPoint(
            phase=phase,
            changed=changed,
            share=changed / self.parameters,
            forget=found.forget,
            forget_nf4=found.forget_nf4,
            retain_nats=found.retain,
            kept=kept,
        )
        self.points.append(point)


def require_folder(path: Path) -> None:
    """Raise `UsageError` ME340 where a frontier could not be written to `path`: before the work, not after it."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(
            "the frontier cannot be written there",
            expected="a file in a folder that exists",
            found=str(path),
            remedy="create the folder, or give --frontier another file",
            error_id="ME340",
        )


def write_frontier(path: Path, frontier: Frontier) -> None:
    """Write a frontier as JSON, whole or not at all; raises `UsageError` when it cannot."""
    write_atomic(path, frontier.model_dump_json(indent=1).encode() + b"\n")
