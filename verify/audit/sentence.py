"""The audit in one sentence: what NF4 undoes of the update, and what that does to the forget set."""

from collections.abc import Sequence

from verify.contract.audit import BehaviourRow, Survival, Total

_MOST = 0.5
"""A share from which the sentence calls something most of an update."""


def headline(total: Total, rows: Sequence[BehaviourRow] = ()) -> str:
    """Return the audit in one sentence."""
    return f"{_update(total)}{_comes_back(rows)}."


def _update(total: Total) -> str:
    if not total.changed:
        return "The two models have the same weights: there is no update"
    if total.nf4.undone is None:
        return "NF4 will undo nothing of this update: it lies in tensors that stay unquantized"
    where = " in quantized tensors" if total.other_changed else ""
    undone = _percent(total.nf4.undone) if total.nf4.undone else "nothing"
    return f"NF4 will undo {undone} of this update{where}{_carried(total.nf4)}"


def _carried(nf4: Survival) -> str:
    """Say where most values keep their codes and what NF4 makes of the update is the update: scales carry it."""
    if not nf4.undone or nf4.undone <= _MOST or not nf4.energy or nf4.realised is None:
        return ""
    along = nf4.realised / nf4.energy  # the cosine between the update and what NF4 makes of it
    if along <= _MOST or nf4.realised <= _MOST:
        return ""
    return f", counted by codes, but scales that moved carry {_percent(nf4.realised)} of it"


def _comes_back(rows: Sequence[BehaviourRow]) -> str:
    """Return what NF4 does to the forget set, over all its rows; nothing where it was not measured."""
    mine = [row for row in rows if row.axis == "forgetting"]
    count = sum(row.edited.n for row in mine)
    if not count:
        return ""
    full, nf4 = (
        sum(estimate.value * estimate.n for estimate in column) / count
        for column in ([row.edited for row in mine], [row.edited_nf4 for row in mine])
    )
    verb = "comes back" if nf4 > full else "goes" if nf4 < full else "stays"
    span = f"at {full:.2f}" if nf4 == full else f"from {full:.2f} to {nf4:.2f}"
    return f"; the forget set {verb} {span}"


def _percent(share: float) -> str:
    """Return a share in percent, never rounded to all or nothing where it is neither."""
    text = f"{100 * share:.1f} %"
    if text == "100.0 %" and share < 1:
        return "over 99.9 %"
    return "under 0.1 %" if text == "0.0 %" and share > 0 else text
