"""What the steps of a verification found, added up."""

from collections.abc import Callable
from dataclasses import dataclass

from verify.contract.result import AxisRow, CheckResult, Erasure, Permanence

Progress = Callable[[str, int, int], None]
"""Called with the title of a step, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Findings:
    """What the steps found: checks in any order, and what the report shows of them."""

    checks: tuple[CheckResult, ...] = ()
    permanence: tuple[Permanence, ...] = ()
    axes: tuple[AxisRow, ...] = ()
    erasure: Erasure | None = None
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        """Return both."""
        return Findings(
            self.checks + other.checks,
            self.permanence + other.permanence,
            self.axes + other.axes,
            other.erasure or self.erasure,
            self.notes + other.notes,
        )
