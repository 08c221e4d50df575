"""`--check-report`: a verifier's signed report is checked, and not the model again."""

from collections.abc import Sequence
from pathlib import Path

from verify.cli.arguments import require_outside, require_writable
from verify.cli.output import deliver
from verify.errors import ExitCode, UsageError

FORMS = ("text", "json")


def check_report(
    report: Path,
    *,
    keys: Sequence[Path],
    results: Sequence[Path],
    model: Path | None,
    manifest: Path | None,
    form: str,
    output: Path | None,
) -> ExitCode:
    """Check a report and write the answer; PASS only for an authentic report whose own verdict is PASS.

    `keys` are the verifier's: the one in MANSU_KEY is a producer's, and is not used.
    """
    if form not in FORMS:
        raise UsageError("--check-report: no such form", expected=" or ".join(FORMS), found=form)
    if output is not None:
        _require_apart(output, [report, *keys, *results], model, manifest)

    from reports.verification import render_report_check, render_report_check_json  # noqa: PLC0415  (not for help)
    from verify.attestation import check_report as check  # noqa: PLC0415

    answer = check(report, keys=keys, results=results, model=model, manifest=manifest)
    deliver(render_report_check_json(answer) if form == "json" else render_report_check(answer), output)
    return ExitCode(answer.exit_code)


def require_nothing_else(**given: bool) -> None:
    """Raise UsageError for options that mean nothing where only a report is checked; True where one was given."""
    for name, present in given.items():
        if present:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} does not go with --check-report", remedy="a report is checked as it is")


def _require_apart(output: Path, inputs: Sequence[Path], model: Path | None, manifest: Path | None) -> None:
    """Refuse to write the answer over what is checked: a file named, any file beside the report, a signed one."""
    require_writable(output)
    place = output.resolve()
    beside = output.exists() and place.parent == inputs[0].parent.resolve()
    if beside or place in {path.resolve() for path in inputs}:
        raise UsageError(f"{output} is among what is checked", remedy="write the answer elsewhere")
    if model is not None:
        require_outside(output, model, manifest or model)
    elif manifest is not None and place == manifest.resolve():
        raise UsageError(f"{output} is a signed file", remedy="write the answer elsewhere")
