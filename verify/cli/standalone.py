"""What `mansu-verify` does without checking a certificate: prove the theorems, print a manifest."""

import json
from pathlib import Path

import typer

from verify.cli.arguments import require_writable
from verify.cli.output import deliver
from verify.errors import ExitCode, UsageError


def prove(form: str, output: Path | None) -> ExitCode:
    """Prove or refute every theorem; FAIL if one comes out otherwise than stated."""
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
    from verify.artefact import read_regular, read_unverified  # noqa: PLC0415  (imports torch)

    if not path.is_file():
        raise UsageError(f"there is no manifest at {path}", remedy="give the certificate's m.json")
    statement = read_unverified(read_regular(path.name, root=path.parent), certificates=True)
    typer.echo("unverified: no signature and no file was checked", err=True)
    return json.dumps(statement.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=True)
