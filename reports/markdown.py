"""The result as GitHub-flavoured Markdown, for a CI job's summary: verdict first, long tables folded.

Strings of the result are text: characters that Markdown, HTML or a forge would act on are written as entities.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from reports import wording
from reports.plain import neutral
from verify.contract.catalogue import Entry
from verify.contract.failure import Failure
from verify.contract.result import AxisRow, CheckResult, Erasure, Permanence, Result
from verify.contract.schema import Estimate

VERDICT_MARK = {"PASS": "✅", "FAIL": "❌", "UNDECIDED": "⚠️"}

_ACTIVE = re.compile(r"[&<>|`*_\[\]~@#$\\^]|:(?=//)|(?<=[wW])\.|^[-+=](?!\d)|^\d+(?=[.)](?:\s|$))")


def render_markdown(result: Result) -> str:
    """Return the result as Markdown with a final newline."""
    parts = [
        f"## {VERDICT_MARK[result.verdict]} {result.verdict}: unlearning certificate",
        escaped(result.headline),
        _facts(result),
        *_section("Needs attention", _attention(wording.open_checks(result))),
        *_section("Four axes, with 95 % intervals", _axes(result)),
        *_section("Permanence under quantization", _permanence(result.permanence)),
        *_section("Structural erasure", _erasure(result)),
        *_folded(f"All checks: {wording.tally(result)}", _checks(result.checks)),
        *_folded("Files and their digests", _table(("File", "SHA-256"), _digests(result))),
        *_section("What this does not prove", _bullets((*result.limitations, *result.notes))),
        *_section("Repeat it", _command(result.repeat)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_markdown_failure(failure: Failure) -> str:
    """Return what a summary says when the command ended without a result."""
    lines = [f"## ⛔ {escaped(failure.id)}: not checked", f"{escaped(failure.message)} (exit code {failure.exit_code})"]
    pairs = (("Expected", failure.expected), ("Found", failure.found), ("Next", failure.remedy))
    return "\n\n".join([*lines, _bullets_of(pairs)]).rstrip() + "\n"


def render_entry(entry: Entry) -> str:
    """Return the page of one id. The catalogue is our own text and may hold code spans."""
    parts = (f"# {entry.id}: {entry.title}", f"Group: {entry.group}", "## What it means", entry.meaning)
    return "\n\n".join((*parts, "## Why it matters", entry.why, "## How to fix it", entry.fix)) + "\n"


def escaped(text: str) -> str:
    """Return `text` in one line of Markdown that shows it and does nothing else."""
    return _ACTIVE.sub(lambda match: "".join(f"&#{ord(character)};" for character in match[0]), neutral(text))


def _facts(result: Result) -> str:
    return _bullets_of(
        (
            ("Level", f"{wording.LEVEL[result.level]}; exit code {result.exit_code}"),
            ("Rests on", result.rests_on),
            ("Signature", wording.signature(result)),
            ("Base model", wording.base_digest(result)),
            ("Manifest, SHA-256", result.manifest_sha256 or "none read"),
            ("Policy, SHA-256", result.policy_sha256),
        )
    )


def _section(title: str, body: str) -> tuple[str, ...]:
    return (f"### {title}", body) if body else ()


def _folded(title: str, body: str) -> tuple[str, ...]:
    return ("<details>", f"<summary>{escaped(title)}</summary>", body, "</details>") if body else ()


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(item)}" for item in items)


def _bullets_of(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}:** {escaped(text)}" for label, text in pairs if text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, or nothing without rows; every cell is escaped."""
    body = [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body]) if body else ""


def _status(check: CheckResult | AxisRow) -> str:
    return f"{wording.STATUS_MARK[check.status]} {wording.STATUS[check.status]}"


def _attention(checks: Iterable[CheckResult]) -> str:
    head = ("Check", "Asks", "Status", "Expected", "Found", "Next")
    return _table(head, ((c.id, c.title, _status(c), c.expected, c.found, c.remedy) for c in checks))


def _checks(checks: Iterable[CheckResult]) -> str:
    head = ("Check", "Asks", "Status", "Expected", "Found")
    return _table(head, ((c.id, c.title, _status(c), c.expected, c.found) for c in checks))


def _axes(result: Result) -> str:
    if not result.axes:
        return wording.absent(result)
    head = ("Axis", "Row", "Base", "Base, NF4", "Edited", "Edited, NF4", "Difference", "Difference, NF4", "Status")
    return _table(head, _axis_rows(result))


def _axis_rows(result: Result) -> Iterator[tuple[str, ...]]:
    for axis, rows in wording.by_axis(result):
        for row in rows:
            models = (row.base, row.base_nf4, row.edited, row.edited_nf4)
            levels = (f"{wording.level(row, e.value)} (n {wording.count(e.n)})" for e in models)
            changes = (_interval(row, row.difference), _interval(row, row.difference_nf4))
            yield axis, f"{row.row}, {row.unit}; rule: {row.rule}", *levels, *changes, _status(row)


def _interval(row: AxisRow, estimate: Estimate) -> str:
    value, low, high = (wording.change(row, x) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def _permanence(profiles: Sequence[Permanence]) -> str:
    if not profiles:
        return wording.UNAVAILABLE
    first = profiles[0]
    share = wording.percent(first.changed_share)
    text = f"{wording.count(first.masked)} of {wording.count(first.parameters)} parameters changed ({share})."
    head = ("Profile", *(row.id for row in first.rows), "Codes changed outside the mask")
    rows = (
        (p.profile, *(wording.of(row.satisfied, row.violated) for row in p.rows), wording.count(p.collateral_codes))
        for p in profiles
    )
    return f"{text}\n\n{_table(head, rows)}"


def _erasure(result: Result) -> str:
    erasure: Erasure | None = result.erasure
    if erasure is None:
        return wording.absent(result)
    rows = (
        (
            wording.cad_label(row),
            f"{wording.decimal(row.cad.value)} ({wording.decimal(row.cad.low)} to {wording.decimal(row.cad.high)})",
            f"{wording.decimal(row.rho.value)} ({wording.decimal(row.rho.low)} to {wording.decimal(row.rho.high)})",
            wording.count(row.cad.n),
        )
        for row in erasure.rows
    )
    table = _table(("Measured on", "CAD", "rho", "Pairs"), rows)
    return f"{table}\n\n{escaped(erasure.rule)}" if erasure.rule else table


def _digests(result: Result) -> Iterator[tuple[str, str]]:
    return ((file.name, file.sha256) for file in result.files)


def _command(command: str) -> str:
    """Return a fenced block; the fence is longer than any run of backticks in it."""
    shown = neutral(command)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}console\n{shown}\n{fence}"
