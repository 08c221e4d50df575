"""What `mansu-verify` does without checking a certificate: prove the theorems, print a manifest, explain an id."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from verify.cli.arguments import require_writable
from verify.cli.output import deliver
from verify.errors import ExitCode, UsageError


def prove(form: str, output: Path | None) -> ExitCode:
    """Prove or refute every theorem; FAIL if one comes out otherwise than stated."""
    _require_form("--prove", form, ("text", "json"))
    if output is not None:
        require_writable(output)

    from reports.theorems import render_theorems, render_theorems_json  # noqa: PLC0415  (not needed for help)
    from verify.nf4.proofs import prove_all  # noqa: PLC0415  (imports torch and z3)

    theorems = prove_all()
    rendered = render_theorems_json(theorems) if form == "json" else render_theorems(theorems)
    deliver(rendered, output)
    return ExitCode.PASS if all(theorem.holds for theorem in theorems) else ExitCode.FAIL


def shown_manifest(path: Path) -> str:
    """Return the manifest as ASCII JSON, on the warning that nobody has verified it."""
    from verify.reading import show  # noqa: PLC0415  (pydantic and cryptography are slow for help)

    statement = show(path)
    typer.echo("unverified: no signature and no file was checked", err=True)
    return json.dumps(statement.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=True)


def explain(entry_id: str, form: str) -> str:
    """Return what an id means, why it matters and how to fix it, as text, Markdown or JSON."""
    _require_form("--explain", form, ("text", "markdown", "json"))

    from reports import render_entry, render_entry_text  # noqa: PLC0415  (not needed for help)
    from verify.contract.catalogue import ENTRIES  # noqa: PLC0415

    entry = ENTRIES.get(entry_id.strip().upper())
    if entry is None:
        remedy = "take an id from a result; docs/checks/ lists them all"
        raise UsageError("--explain", expected="an id such as MV203 or ME200", found=ascii(entry_id), remedy=remedy)
    if form == "json":
        return json.dumps(asdict(entry), indent=2, ensure_ascii=True) + "\n"
    return render_entry(entry) if form == "markdown" else render_entry_text(entry)


def _require_form(option: str, form: str, forms: Sequence[str]) -> None:
    """Raise UsageError for a form that this option cannot print: another than the one asked for would mislead."""
    if form not in forms:
        raise UsageError(f"{option} prints no {form}", expected=f"--format {' or '.join(forms)}", found=form)
