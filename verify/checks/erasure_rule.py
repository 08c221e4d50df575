"""The rule of structural erasure as one sentence, with its numbers: the policy's thresholds and the measured controls.

A certificate and a calibration say it with these same words.
"""

from collections.abc import Iterator, Sequence

from verify.checks.decision import words
from verify.contract.policy import Policy
from verify.contract.result import CadRow
from verify.contract.schema import Estimate


def rule_in_words(
    policy: Policy, *, layers: int, late: int, controls: Sequence[CadRow], muted: Sequence[CadRow] = ()
) -> str:
    """Return what "structurally erased" means on the model that the controls were measured on.

    `controls` are models that erased nothing, with nothing of the base lent or with its late layers (`from_layer`);
    `muted` are models that were silenced in those layers only, with them lent. Where one of them reaches a threshold
    the sentence says so: the rule then excludes less than it seems to. Needs at least one control.
    """
    top = highest(controls)
    thresholds = (
        f"CAD at least {policy.cad:.3f} and, with {lent(layers, late)}, at least {policy.cad_late:.3f}, "
        f"in full precision and after NF4{words(policy.cad_rule)}"
    )
    above = f"every 95 % interval of these above the highest control's ({in_words(top.cad)}: {top.label})"
    turned = (
        f"and ρ within ±{policy.rho:.3f} (with those of the base, at least {-policy.rho:.3f}){words(policy.cad_rule)}"
    )
    sentence = f"Structurally erased means: {thresholds}, {above}, {turned}"
    if muted:
        readings = " and ".join(f"{row.label} reads {in_words(row.cad)}" for row in muted)
        sentence += f"; with those of the base, {readings}"
    reached = "; ".join(defeats(policy, layers=layers, controls=controls, muted=muted))
    return f"{sentence}; but {reached}." if reached else f"{sentence}."


def defeats(
    policy: Policy, *, layers: int, controls: Sequence[CadRow], muted: Sequence[CadRow] = ()
) -> tuple[str, ...]:
    """Return, in words, each threshold that the interval of a control reaches; none where the rule tells them apart."""
    return tuple(_defeats(policy, layers, controls, muted))


def highest(controls: Sequence[CadRow]) -> CadRow:
    """Return the control whose interval ends highest."""
    return max(controls, key=lambda row: row.cad.high)


def lent(layers: int, late: int) -> str:
    """Return in words what the base lends for the late reading."""
    if late >= layers:
        return "the base's read-out"
    last = layers - 1
    which = f"layer {late}" if late == last else f"layers {late} to {last}"
    return f"the base's read-out and {which}"


def in_words(value: Estimate) -> str:
    """Return an estimate with its 95 % interval."""
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _defeats(policy: Policy, layers: int, controls: Sequence[CadRow], muted: Sequence[CadRow]) -> Iterator[str]:
    for row in controls:
        late = row.from_layer is not None
        bound = policy.cad_late if late else policy.cad
        if _reaches(row.cad, bound):
            where = f" with {lent(layers, row.from_layer)}" if row.from_layer is not None else ""
            cannot = "the rule cannot tell erasure from a change that erases nothing"
            yield f"{cannot} on this model, where {row.label} reaches {in_words(row.cad)}{where}"
    for row in muted:
        if _reaches(row.cad, policy.cad_late):
            cannot = "the rule cannot tell erasure from muting"
            yield f"{cannot} on this model, where {row.label} reaches {in_words(row.cad)}"


def _reaches(value: Estimate, bound: float) -> bool:
    # a bootstrap interval may leave the value out
    return max(value.value, value.high) >= bound
