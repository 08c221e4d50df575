"""Whether an edit meets the four axes, by criteria that are fixed before anything is run."""

from collections.abc import Iterable
from typing import Literal

from mansu.bench.study.document import AxesRecord, ErasureRecord
from verify.checks.measured import DECIDING
from verify.contract.policy import Policy
from verify.contract.result import AxisRow, CadRow
from verify.contract.schema import Schema

Axis = Literal["forgetting", "retention", "PTQ gap", "erasure"]


class Criteria(Schema):
    """What each axis asks for, point by point; those of erasure are the verifier's default policy's.

    Forgetting: accuracy on held-out wordings at most `above_chance` over chance, in both precisions. Retention: of each
    row, accuracy at most `loss` below the base's in the same precision, and perplexity at most `rise` above (relative).
    PTQ gap: at most 0, or its interval touches 0.
    """

    above_chance: float = 0.05
    loss: float = 0.02
    rise: float = 0.02


def met(axes: AxesRecord, erased: ErasureRecord | None, criteria: Criteria, policy: Policy) -> dict[Axis, bool | None]:
    """Return which axes an edit meets; erasure is None where it was not measured, or cannot be decided."""
    return {
        "forgetting": all(
            worst(row) <= axes.chance[row.row] + criteria.above_chance for row in deciding(axes.rows, "forgetting")
        ),
        "retention": all(kept(row, criteria) for row in axes.rows if row.axis == "retention"),
        "PTQ gap": all(row.difference_nf4.low <= 0 for row in deciding(axes.rows, "ptq_gap")),
        "erasure": None if erased is None else is_erased(erased, policy),
    }


def deciding(rows: Iterable[AxisRow], axis: str) -> list[AxisRow]:
    """Return the rows of an axis on held-out wordings; of a suite without any, all of them."""
    mine = [row for row in rows if row.axis == axis]
    return [row for row in mine if row.row.endswith(DECIDING)] or mine


def worst(row: AxisRow) -> float:
    """Return the higher of the edited model's accuracies in full precision and after NF4."""
    return max(row.edited.value, row.edited_nf4.value)


def kept(row: AxisRow, criteria: Criteria) -> bool:
    """Whether a row of retention is kept in both precisions."""
    changes = (row.difference.value, row.difference_nf4.value)
    return max(changes) <= criteria.rise if row.unit == "perplexity" else min(changes) >= -criteria.loss


def is_erased(erased: ErasureRecord, policy: Policy) -> bool | None:
    """Whether CAD says that the mechanism is gone: above its bounds and its control, not inverted, what stays whole.

    None where only the last is open (`retained`).
    """
    plain = [row for row in erased.rows if row.role == "edited" and row.from_layer is None]
    late = [row for row in erased.rows if row.role == "edited" and row.from_layer is not None] or plain
    control = max(row.cad.high for row in erased.rows if row.role == "control")
    gone = (
        all(row.cad.value >= policy.cad and abs(row.rho.value) <= policy.rho for row in plain)
        and all(row.cad.value >= policy.cad_late and row.rho.value >= -policy.rho for row in late)
        and all(row.cad.low > control for row in (*plain, *late))
    )
    return retained(erased.rows, policy) if gone else False


def retained(rows: Iterable[CadRow], policy: Policy) -> bool | None:
    """Whether the circuit of what is retained is no other than under NF4 alone, give or take the policy's excess.

    None where the control is so noisy that no edit could exceed it, which the verifier does not decide either (MV404).
    """
    rows = tuple(rows)
    kept_rows = [row.cad.value for row in rows if row.role == "retain"]
    control = next(row.cad.value for row in rows if row.role == "retain control")
    bound = control + policy.retain_cad_excess
    return None if bound >= 1 > policy.retain_cad_excess else max(kept_rows) <= bound
