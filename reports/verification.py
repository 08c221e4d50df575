"""What `--check-report` answers, as terminal text and as JSON."""

from collections.abc import Iterator

from reports import wording
from reports.text import wrap
from verify.contract.verification import ReportAnswer, ReportCheck, VerificationStatement

_INDENT = "  "


def render_report_check(answer: ReportAnswer, *, width: int = 80) -> str:
    """Return verdict and headline, what the report says if it holds, every check, and what this does not prove."""
    scope = f"(a report was checked, not the model; exit code {answer.exit_code})"
    lines = [*wrap(scope, width, first=f"{answer.verdict} "), "", *wrap(answer.headline, width)]
    if answer.report is not None:
        lines += ["", "What the report says", "-" * 20, *_report(answer.report, answer.signer or "", width)]
    lines += ["", "Checks of the report", "-" * 20]
    for check in answer.checks:
        lines += _check(check, width)
    lines += ["", "What this does not prove", "-" * 24]
    for text in answer.limitations:
        lines += wrap(text, width, first="- ", rest=_INDENT)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_report_check_json(answer: ReportAnswer) -> str:
    """Return the same as indented ASCII JSON; see `reports.render.render_json` for the escapes."""
    return answer.model_dump_json(indent=2, by_alias=True, ensure_ascii=True).replace("##", "#\\u0023") + "\n"


def _report(report: VerificationStatement, signer: str, width: int) -> Iterator[str]:
    said = report.predicate
    versions = ", ".join(f"{name} {number}" for name, number in said.verifier.version.items())
    manifest = said.inputAttestations[0].digest.sha256 if said.inputAttestations else "could not be read"
    facts = (
        ("verdict", f"{said.verdict} ({said.level} checks; exit code {said.exitCode})"),
        ("time", said.timeVerified),
        ("signed by", signer),
        ("verifier", f"{said.verifier.id}; {versions}"),
        ("policy", said.policy.digest.sha256),
        ("manifest", manifest),
        ("producer", said.producerKey or "no valid signature"),
        ("base", said.baseDigest),
        ("about", f"{len(report.subject)} files"),
    )
    for label, text in facts:
        yield from wrap(text, width, first=f"  {label:<10}", rest=" " * 12)


def _check(check: ReportCheck, width: int) -> Iterator[str]:
    mark, status = wording.STATUS_MARK[check.status], wording.STATUS[check.status]
    yield from wrap(f"{check.id} {status}: {check.title}", width, first=f"{mark} ", rest=_INDENT)
    open_ = check.status in {"fail", "undecided"}
    details = (("expected", check.expected if open_ else ""), ("found", check.found), ("next", check.remedy))
    for label, text in details:
        if text:
            yield from wrap(text, width, first=f"  {label:<10}", rest=" " * 12)
