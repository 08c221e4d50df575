"""Behaviour (MV3xx): forgetting, retention and the PTQ gap, measured on held-out probes.

`measure` runs the models; everything else is a function of their answers. A row with too few probes decides nothing.
"""

from collections.abc import Callable, Iterable

from verify.behaviour.axes import Answers, asked
from verify.behaviour.axes import measure as answers_of
from verify.behaviour.loading import Language
from verify.behaviour.probes import Probes
from verify.behaviour.statistics import paired_difference, perplexity, perplexity_rise, proportion
from verify.checks.catalog import failed, passed, undecided
from verify.checks.decision import at_least, at_most, words
from verify.checks.enough import MORE, distinct, distinct_texts, enough_probes, guessed, positive_control
from verify.checks.measured import DECIDING, Columns, Measured, columns, prose_columns, prose_rows, rows_of
from verify.checks.models import Models
from verify.checks.readings import ask_bare, read_otherwise
from verify.checks.usable import require_choices, require_fit, require_numbers
from verify.contract.policy import Policy, Rule
from verify.contract.result import AxisRow, CheckResult, Status
from verify.contract.schema import Estimate

REPORTED = "reported, not decided"

_BY_ROW = "against the base, row by row"
_KNOWN = "reject the certificate: the model still answers what it should have forgotten"
_LOST = "reject the certificate: the model lost what it should have kept"

Progress = Callable[[int], None]


def items(probes: Probes) -> int:
    """Return how many items `measure` reports to its progress."""
    return 4 * (len(probes.choices) + len(probes.texts))


def measure(models: Models, probes: Probes, *, progress: Progress) -> Measured:
    """Ask all four models.

    Raises ArtefactError MV301 for probes that the model cannot be asked, MV304 to MV306 for answers that are no
    numbers.
    """
    require_fit(models.base, probes)
    require_choices(models.base.tokenizer, probes)
    four = (models.base, models.base_nf4, models.edited, models.edited_nf4)
    base, base_nf4, edited, edited_nf4 = (finite_answers(language, probes, progress=progress) for language in four)
    bare = ask_bare(four, probes)
    return Measured(probes, asked(models.base, probes), base, base_nf4, edited, edited_nf4, bare)


def finite_answers(language: Language, probes: Probes, *, progress: Progress) -> Answers:
    """Ask one model; raises ArtefactError MV304 to MV306 for answers that are no numbers."""
    answers = answers_of(language, probes, progress=progress)
    require_numbers(answers, probes)
    return answers


def judge(measured: Measured, policy: Policy) -> tuple[tuple[CheckResult, ...], tuple[AxisRow, ...]]:
    """Return MV301 to MV310 but the claims, and the rows of the report."""
    forgetting = tuple(forgetting_row(measured, row, policy) for row in rows_of(measured.probes, "forgetting"))
    gaps = tuple(gap_row(measured, row, policy) for row in rows_of(measured.probes, "forgetting"))
    facts = tuple(retention_row(measured, row, policy) for row in rows_of(measured.probes, "retention"))
    prose = tuple(prose_row(measured, row, policy) for row in prose_rows(measured.probes))
    checks = (
        passed("MV301", "well-formed probes", f"{len(measured.probes.choices)} choices, {len(prose)} rows of prose"),
        passed("MV302", "codes as the exact quantizer gives them", "codes as the exact quantizer gives them"),
        positive_control(measured, forgetting, policy),
        enough_probes(measured, policy),
        _overall("MV304", forgetting, _forget_rule(policy), policy.forget_rule, _KNOWN),
        read_otherwise(measured, policy),
        _overall("MV307", gaps, _gap_rule(policy), policy.ptq_gap_rule, _KNOWN),
        _overall("MV305", facts, f"accuracy {_loss_rule(policy)}, {_BY_ROW}", policy.retention_rule, _LOST),
        _overall("MV306", prose, f"{_rise_rule(policy)}, {_BY_ROW}", policy.perplexity_rule, _LOST),
    )
    return checks, (*forgetting, *facts, *prose, *gaps)


def forgetting_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV304 for one row: accuracy at most the policy's in full precision and under NF4."""
    answered = columns(measured, "forgetting", row)
    known = proportion(answered.edited), proportion(answered.edited_nf4)
    holds = at_most(policy.forget_accuracy, policy.forget_rule, *known)
    status = _status(distinct(measured, "forgetting", row), policy, holds=holds)
    rule, status = _if_deciding(row, _forget_rule(policy), status)
    return _accuracy_row("forgetting", row, answered, rule, status)


def retention_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV305 for one row: the loss of accuracy, each precision against the base in the same precision."""
    answered = columns(measured, "retention", row)
    differences = (
        paired_difference(answered.edited, answered.base),
        paired_difference(answered.edited_nf4, answered.base_nf4),
    )
    holds = at_least(-policy.retention_loss, policy.retention_rule, *differences)
    status = _status(distinct(measured, "retention", row), policy, holds=holds)
    if status == "pass" and _cannot_be_lost(answered, measured, row, policy):
        status = "undecided"
    return _accuracy_row("retention", row, answered, _loss_rule(policy), status)


def _cannot_be_lost(answered: Columns, measured: Measured, row: str, policy: Policy) -> bool:
    """Tell whether a model that knows nothing would satisfy the bound, if there is one: the base answers hardly more.

    Such a row would pass a model that has collapsed: into silence, or into one answer to every question.
    """
    known = min(proportion(answered.base).value, proportion(answered.base_nf4).value)
    return known <= guessed(measured, "retention", row) + policy.retention_loss and policy.retention_loss < 1


def gap_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV307 for one row: what NF4 changes, paired by probe, for the base and for the edited model."""
    answered = columns(measured, "forgetting", row)
    gap = paired_difference(answered.edited_nf4, answered.edited)
    holds = at_most(policy.ptq_gap, policy.ptq_gap_rule, gap)
    status = _status(distinct(measured, "forgetting", row), policy, holds=holds)
    rule, status = _if_deciding(row, _gap_rule(policy), status)
    return _accuracy_row("ptq_gap", row, answered, rule, status).model_copy(
        update={"difference": paired_difference(answered.base_nf4, answered.base), "difference_nf4": gap}
    )


def prose_row(measured: Measured, row: str, policy: Policy) -> AxisRow:
    """MV306 for one row: the rise of perplexity, each precision against the base in the same precision."""
    tokens, nll = prose_columns(measured, row)
    rise, rise_nf4 = (
        perplexity_rise(nll.edited, nll.base, tokens),
        perplexity_rise(nll.edited_nf4, nll.base_nf4, tokens),
    )
    holds = at_most(policy.perplexity_rise, policy.perplexity_rule, rise, rise_nf4)
    status = _status(distinct_texts(measured, row), policy, holds=holds)
    before, before_nf4 = perplexity(nll.base, tokens), perplexity(nll.base_nf4, tokens)
    known = max(before.value, before_nf4.value)
    if status == "pass" and known * (1 + policy.perplexity_rise) >= measured.asked.vocabulary:
        status = "undecided"  # a model that takes every token for as likely as any other would satisfy the bound too
    return AxisRow(
        axis="retention",
        row=row,
        unit="perplexity",
        base=before,
        base_nf4=before_nf4,
        edited=perplexity(nll.edited, tokens),
        edited_nf4=perplexity(nll.edited_nf4, tokens),
        difference=rise,
        difference_nf4=rise_nf4,
        rule=_rise_rule(policy),
        status=status,
    )


def _forget_rule(policy: Policy) -> str:
    return f"accuracy at most {policy.forget_accuracy:.3f} in both precisions{words(policy.forget_rule)}"


def _gap_rule(policy: Policy) -> str:
    return f"NF4 minus full precision at most {policy.ptq_gap:.3f}{words(policy.ptq_gap_rule)}"


def _loss_rule(policy: Policy) -> str:
    return f"loss at most {policy.retention_loss:.3f}{words(policy.retention_rule)}"


def _rise_rule(policy: Policy) -> str:
    return f"perplexity rise at most {policy.perplexity_rise:.1%}{words(policy.perplexity_rule)}"


def _accuracy_row(axis: str, row: str, answered: Columns, rule: str, status: Status) -> AxisRow:
    return AxisRow(
        axis=axis,  # type: ignore[arg-type]  # callers pass the literal's values
        row=row,
        unit="accuracy",
        base=proportion(answered.base),
        base_nf4=proportion(answered.base_nf4),
        edited=proportion(answered.edited),
        edited_nf4=proportion(answered.edited_nf4),
        difference=paired_difference(answered.edited, answered.base),
        difference_nf4=paired_difference(answered.edited_nf4, answered.base_nf4),
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
        reason = "too few probes"
        if check_id in {"MV305", "MV306"}:
            reason += ", or a base that knows no more than a model that knows nothing"
        return undecided(check_id, expected, f"{reason}: {found}", MORE)
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
