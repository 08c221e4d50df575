"""Behaviour (MV3xx): forgetting, retention and the PTQ gap, measured on held-out probes.

`measure` runs the models; everything else is a function of their answers. A row with too few probes decides nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.behaviour.axes import Answers
from verify.behaviour.axes import measure as answers_of
from verify.behaviour.probes import Probes
from verify.behaviour.statistics import paired_difference, perplexity, perplexity_rise, proportion
from verify.checks.catalog import failed, passed, undecided
from verify.checks.decision import at_least, at_most, words
from verify.checks.models import Models
from verify.checks.usable import require_choices, require_fit, require_numbers
from verify.contract.policy import Policy, Rule
from verify.contract.result import AxisRow, CheckResult, Status
from verify.contract.schema import Estimate

DECIDING = "held-out wordings"
"""Forgetting rows whose name ends so are decided upon; the others are reported beside them."""

REPORTED = "reported, not decided"

_AXES = ("forgetting", "retention")
_BY_ROW = "against the base, row by row"
_MORE = "more held-out probes are needed: ask the producer, or give your own with --probes"
_KNOWN = "reject the certificate: the model still answers what it should have forgotten"
_LOST = "reject the certificate: the model lost what it should have kept"

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers of the four models to the same probes."""

    probes: Probes
    base: Answers
    base_nf4: Answers
    edited: Answers
    edited_nf4: Answers


def items(probes: Probes) -> int:
    """Return how many items `measure` reports to its progress."""
    return 4 * (len(probes.choices) + len(probes.texts))


def measure(models: Models, probes: Probes, *, progress: Progress) -> Measured:
    """Ask all four models.

    Raises ArtefactError MV301 for probes that this model cannot be asked, MV304 to MV306 for answers that are no
    numbers.
    """
    require_fit(models.base, probes)
    require_choices(models.base.tokenizer, probes)
    found = [
        answers_of(language, probes, progress=progress)
        for language in (models.base, models.base_nf4, models.edited, models.edited_nf4)
    ]
    for answers in found:
        require_numbers(answers, probes)
    return Measured(probes, *found)


def judge(measured: Measured, policy: Policy) -> tuple[tuple[CheckResult, ...], tuple[AxisRow, ...]]:
    """Return MV301 to MV309 but the claims, and the rows of the report."""
    forgetting = tuple(forgetting_row(measured, row, policy) for row in rows_of(measured.probes, "forgetting"))
    gaps = tuple(gap_row(measured, row, policy) for row in rows_of(measured.probes, "forgetting"))
    facts = tuple(retention_row(measured, row, policy) for row in rows_of(measured.probes, "retention"))
    prose = tuple(prose_row(measured, row, policy) for row in prose_rows(measured.probes))
    checks = (
        passed("MV301", "well-formed probes", f"{len(measured.probes.choices)} choices, {len(prose)} rows of prose"),
        passed("MV302", "codes as the exact quantizer gives them", "codes as the exact quantizer gives them"),
        positive_control(forgetting, policy),
        enough_probes(measured.probes, policy),
        _overall("MV304", forgetting, _forget_rule(policy), policy.forget_rule, _KNOWN),
        _overall("MV307", gaps, _gap_rule(policy), policy.ptq_gap_rule, _KNOWN),
        _overall("MV305", facts, f"accuracy {_loss_rule(policy)}, {_BY_ROW}", policy.retention_rule, _LOST),
        _overall("MV306", prose, f"{_rise_rule(policy)}, {_BY_ROW}", policy.perplexity_rule, _LOST),
    )
    return checks, (*forgetting, *facts, *prose, *gaps)


def rows_of(probes: Probes, axis: str) -> tuple[str, ...]:
    """Return the names of an axis' rows of choices, in order of appearance."""
    return tuple(dict.fromkeys(choice.row for choice in probes.choices if choice.axis == axis))


def prose_rows(probes: Probes) -> tuple[str, ...]:
    """Return the names of the rows of prose, in order of appearance."""
    return tuple(dict.fromkeys(text.row for text in probes.texts))


def forgetting_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV304 for one row: accuracy at most the policy's in full precision and under NF4."""
    columns = _columns(measured, "forgetting", row)
    known = proportion(columns.edited), proportion(columns.edited_nf4)
    holds = at_most(policy.forget_accuracy, policy.forget_rule, *known)
    status = _status(distinct(measured.probes, "forgetting", row), policy, holds=holds)
    rule, status = _if_deciding(row, _forget_rule(policy), status)
    return _accuracy_row("forgetting", row, columns, rule, status)


def retention_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV305 for one row: the loss of accuracy, each precision against the base in the same precision."""
    columns = _columns(measured, "retention", row)
    differences = (
        paired_difference(columns.edited, columns.base),
        paired_difference(columns.edited_nf4, columns.base_nf4),
    )
    holds = at_least(-policy.retention_loss, policy.retention_rule, *differences)
    status = _status(distinct(measured.probes, "retention", row), policy, holds=holds)
    if status == "pass" and _cannot_be_lost(columns, policy):
        status = "undecided"
    return _accuracy_row("retention", row, columns, _loss_rule(policy), status)


def _cannot_be_lost(columns: "_Columns", policy: Policy) -> bool:
    """Tell whether the base answers so little that a model without any answer would satisfy the bound, if there is one.

    Such a row would pass a model that has collapsed.
    """
    known = min(proportion(columns.base).value, proportion(columns.base_nf4).value)
    return known <= policy.retention_loss < 1


def gap_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV307 for one row: what NF4 changes, paired by probe, for the base and for the edited model."""
    columns = _columns(measured, "forgetting", row)
    gap = paired_difference(columns.edited_nf4, columns.edited)
    holds = at_most(policy.ptq_gap, policy.ptq_gap_rule, gap)
    status = _status(distinct(measured.probes, "forgetting", row), policy, holds=holds)
    rule, status = _if_deciding(row, _gap_rule(policy), status)
    return _accuracy_row("ptq_gap", row, columns, rule, status).model_copy(
        update={"difference": paired_difference(columns.base_nf4, columns.base), "difference_nf4": gap}
    )


def prose_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV306 for one row: the rise of perplexity, each precision against the base in the same precision."""
    at = torch.tensor([text.row == row for text in measured.probes.texts])
    tokens = measured.base.tokens[at]
    base, base_nf4, edited, edited_nf4 = (
        answers.nll[at] for answers in (measured.base, measured.base_nf4, measured.edited, measured.edited_nf4)
    )
    rise, rise_nf4 = perplexity_rise(edited, base, tokens), perplexity_rise(edited_nf4, base_nf4, tokens)
    count = len({text.text for text in measured.probes.texts if text.row == row})
    return AxisRow(
        axis="retention",
        row=row,
        unit="perplexity",
        base=perplexity(base, tokens),
        base_nf4=perplexity(base_nf4, tokens),
        edited=perplexity(edited, tokens),
        edited_nf4=perplexity(edited_nf4, tokens),
        difference=rise,
        difference_nf4=rise_nf4,
        rule=_rise_rule(policy),
        status=_status(count, policy, holds=at_most(policy.perplexity_rise, policy.perplexity_rule, rise, rise_nf4)),
    )


def positive_control(rows: Iterable[AxisRow], policy: Policy) -> CheckResult:
    """MV303: the base under NF4 answers every forgetting row; otherwise there was nothing to forget."""
    expected = f"accuracy at least {policy.base_knows:.3f} on every forgetting row"
    weak = [row for row in rows if row.base_nf4.value < policy.base_knows]
    if weak:
        found = f"{weak[0].base_nf4.value:.3f} on {weak[0].row!a}: the base did not know it, so nothing is shown"
        return undecided("MV303", expected, found, "ask for probes that the base under NF4 can answer")
    found = ", ".join(f"{row.base_nf4.value:.3f} on {row.row!a}" for row in rows) or "no row"
    return passed("MV303", expected, found)


def enough_probes(probes: Probes, policy: Policy) -> CheckResult:
    """MV309: every kind of row exists, and every row has enough probes to decide anything, none of them twice."""
    expected = f"at least {policy.minimum_probes} probes in every row, all distinct, and rows of every kind"
    deciding = [row for row in rows_of(probes, "forgetting") if row.endswith(DECIDING)]
    kinds = (
        (f"forgetting, {DECIDING}", deciding),
        ("retention", rows_of(probes, "retention")),
        ("prose", prose_rows(probes)),
    )
    missing = [kind for kind, rows in kinds if not rows]
    if missing:
        return failed("MV309", expected, f"no row of {', '.join(missing)}", _MORE)
    asked = {(axis, row): _asked(probes, axis, row) for axis in _AXES for row in rows_of(probes, axis)}
    asked |= {("prose", row): [t.text for t in probes.texts if t.row == row] for row in prose_rows(probes)}
    counts = {name: len(set(texts)) for name, texts in asked.items()}
    twice = next((name for name, texts in asked.items() if len(texts) > counts[name]), None)
    if twice is not None:  # it weighs more than the others, and narrows an interval without being evidence
        found = f"{len(asked[twice])} probes, {counts[twice]} of them distinct, in {twice[1]!a}"
        return undecided("MV309", expected, found, "ask for probes without repetition, or give your own with --probes")
    least = min(counts, key=lambda name: counts[name])
    found = f"at least {counts[least]}, in {least[1]!a}"
    if counts[least] < policy.minimum_probes:
        return undecided("MV309", expected, found, _MORE)
    return passed("MV309", expected, found)


def distinct(probes: Probes, axis: str, row: str) -> int:
    """Count the distinct prompts of a row: one question asked twice is one probe."""
    return len(set(_asked(probes, axis, row)))


def _asked(probes: Probes, axis: str, row: str) -> list[str]:
    return [choice.prompt for choice in probes.choices if (choice.axis, choice.row) == (axis, row)]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Right or wrong, bool [probes of a row], by model."""

    base: Tensor
    base_nf4: Tensor
    edited: Tensor
    edited_nf4: Tensor


def _columns(measured: Measured, axis: str, row: str) -> _Columns:
    at = torch.tensor([(choice.axis, choice.row) == (axis, row) for choice in measured.probes.choices])
    models = (measured.base, measured.base_nf4, measured.edited, measured.edited_nf4)
    return _Columns(*(answers.correct[at] for answers in models))


def _forget_rule(policy: Policy) -> str:
    return f"accuracy at most {policy.forget_accuracy:.3f} in both precisions{words(policy.forget_rule)}"


def _gap_rule(policy: Policy) -> str:
    return f"NF4 minus full precision at most {policy.ptq_gap:.3f}{words(policy.ptq_gap_rule)}"


def _loss_rule(policy: Policy) -> str:
    return f"loss at most {policy.retention_loss:.3f}{words(policy.retention_rule)}"


def _rise_rule(policy: Policy) -> str:
    return f"perplexity rise at most {policy.perplexity_rise:.1%}{words(policy.perplexity_rule)}"


def _accuracy_row(axis: str, row: str, columns: _Columns, rule: str, status: Status) -> AxisRow:
    return AxisRow(
        axis=axis,  # type: ignore[arg-type]  # callers pass the literal's values
        row=row,
        unit="accuracy",
        base=proportion(columns.base),
        base_nf4=proportion(columns.base_nf4),
        edited=proportion(columns.edited),
        edited_nf4=proportion(columns.edited_nf4),
        difference=paired_difference(columns.edited, columns.base),
        difference_nf4=paired_difference(columns.edited_nf4, columns.base_nf4),
        rule=rule,
        status=status,
    )


def _status(count: int, policy: Policy, *, holds: bool) -> Status:
    if count < policy.minimum_probes:
        return "undecided"
    return "pass" if holds else "fail"


def _if_deciding(row: str, rule: str, status: Status) -> tuple[str, Status]:
    return (rule, status) if row.endswith(DECIDING) else (REPORTED, "skipped")


def _overall(check_id: str, rows: Iterable[AxisRow], expected: str, rule: Rule, remedy: str) -> CheckResult:
    """Join rows to one check: fail if one fails, else undecided if one is or there is none."""
    judged = [row for row in rows if row.status != "skipped"]
    found = "; ".join(_in_words(row, rule) for row in judged) or "no row to decide on"
    if any(row.status == "fail" for row in judged):
        return failed(check_id, expected, found, remedy)
    if not judged or any(row.status == "undecided" for row in judged):
        reason = "too few probes, or a base that answers none" if check_id == "MV305" else "too few probes"
        return undecided(check_id, expected, f"{reason}: {found}", _MORE)
    return passed(check_id, expected, found)


def _in_words(row: AxisRow, rule: Rule) -> str:
    """Return what was measured; with its intervals where they count."""
    values: tuple[Estimate, ...]
    if row.axis == "forgetting":
        form, values = ".3f", (row.edited, row.edited_nf4)
    elif row.axis == "ptq_gap":
        form, values = "+.3f", (row.difference_nf4,)
    else:
        form, values = "+.3f" if row.unit == "accuracy" else "+.2%", (row.difference, row.difference_nf4)
    shown = [f"{value.value:{form}}" for value in values]
    if rule != "point":
        shown = [f"{text} [{value.low:{form}}, {value.high:{form}}]" for text, value in zip(shown, values, strict=True)]
    return f"{row.row!a} {' and '.join(shown)}" + (" under NF4" if row.axis == "retention" else "")
