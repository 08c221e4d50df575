"""The command's options, and what becomes of errors.

Heavy imports happen only once a certificate is to be checked, so that help, version and usage errors are instant.
"""

import sys
import traceback
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from verify.cli.arguments import keys, pinned, report_target, require_outside
from verify.cli.output import deliver, render
from verify.cli.progress import bars
from verify.cli.reported import check_report as check_signed_report
from verify.cli.reported import require_nothing_else
from verify.cli.signing import Written, finish, prepare
from verify.cli.standalone import prove as prove_theorems
from verify.cli.standalone import shown_manifest
from verify.errors import ExitCode, MansuError, UsageError


class Checks(StrEnum):
    """How far to go: `static` runs no model."""

    static = "static"
    full = "full"


class Format(StrEnum):
    """The form of the result on stdout; it never changes the exit code."""

    text = "text"
    json = "json"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version  # noqa: PLC0415  (only for --version)

        typer.echo(f"mansu-verify {version('mansu')}")
        raise typer.Exit


@app.command()
def verify(
    model: Annotated[
        Path | None, typer.Argument(help="Model folder, its model.safetensors or its .index.json.", show_default=False)
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="The certificate's m.json.", show_default=False)] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="Public key you trust, PEM; repeatable. Default: the path in MANSU_KEY.", show_default=False),
    ] = None,
    checks: Annotated[Checks, typer.Option(help="static runs no model.")] = Checks.full,
    format_: Annotated[Format, typer.Option("--format", help="Form of the result on stdout.")] = Format.text,
    report: Annotated[
        list[str] | None,
        typer.Option(metavar="html=PATH", help="Write a report too; html, json or text.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the result here, not to stdout.", show_default=False)
    ] = None,
    base_digest: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SHA256",
            help="Pin a file of the base to the digest its vendor gives; repeatable.",
            show_default=False,
        ),
    ] = None,
    sign_with: Annotated[
        Path | None,
        typer.Option(
            metavar="PRIVATE.pem",
            help="Sign the result with the verifier's key; needs --report json=PATH.",
            show_default=False,
        ),
    ] = None,
    check_report: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULT.intoto.json",
            help="Check a verifier's signed report, not the model again; --key is the verifier's.",
            show_default=False,
        ),
    ] = None,
    result_files: Annotated[
        list[Path] | None,
        typer.Option("--result", help="With --check-report: a file it binds that lies elsewhere.", show_default=False),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="What the certificate must meet, TOML; see docs/policy.md.", show_default=False),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Measure on your own probes, not the producer's.", show_default=False),
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Prove the theorems behind the permanence rows, and stop; no manifest.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the decoded manifest, unverified, and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on an internal error.")] = False,  # noqa: ARG001  (read by main)
    version: Annotated[  # noqa: ARG001  (its callback acts)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Check an unlearning certificate: exit 0 PASS, 1 FAIL, 2 usage, 3 undecided, 4 internal error."""
    if check_report is not None:
        require_nothing_else(
            sign_with=sign_with is not None,
            report=bool(report),
            base_digest=bool(base_digest),
            policy=policy is not None,
            probes=probes is not None,
            prove=prove,
            show=show,
        )
        code = check_signed_report(
            check_report,
            keys=key or [],
            results=result_files or [],
            model=model,
            manifest=manifest,
            form=format_.value,
            output=output,
        )
        raise typer.Exit(code)
    if sign_with is not None and (prove or show):
        raise UsageError("--sign-with: there is no result to sign", remedy="leave out --prove and --show")
    if prove:
        raise typer.Exit(prove_theorems(format_.value, output))
    if result_files:
        raise UsageError("--result goes with --check-report only", remedy="to write a result: --report json=PATH")
    if manifest is None:
        raise UsageError("no manifest given", remedy="add --manifest OUT/m.json")
    if show:
        typer.echo(shown_manifest(manifest))
        return
    if model is None:
        raise UsageError("no model given", remedy="name the model folder or its model.safetensors")
    reports = [report_target(text, model, manifest) for text in report or []]
    if output is not None:
        require_outside(output, model, manifest)
        reports.append((format_.value, output))
    digests = dict(pinned(text) for text in base_digest or [])
    trusted = keys(key or [])

    from verify.artefact.policy_file import read_policy  # noqa: PLC0415  (pydantic and cryptography are slow for help)
    from verify.check import DEFAULT_POLICY, check  # noqa: PLC0415  (torch and transformers take seconds to import)

    thresholds = DEFAULT_POLICY if policy is None else read_policy(policy)
    signing = prepare(sign_with, reports, model=model, manifest=manifest, keys=trusted)
    with bars() as progress:
        result = check(
            model,
            manifest,
            keys=trusted,
            level=checks.value,
            policy=thresholds,
            policy_path=policy,
            probes=probes,
            base_digests=digests,
            progress=progress,
        )
    written = [Written(form, path, deliver(render(result, form), path)) for form, path in reports]
    finish(signing, result, written)
    if output is None:
        deliver(render(result, format_.value), None)
    raise typer.Exit(result.exit_code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; whatever was not foreseen is exit 4 with one line, and a traceback on --debug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="mansu-verify")
    except MansuError as error:
        typer.echo(error.diagnostic(), err=True)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(int(ExitCode.INTERRUPTED))
    except Exception as error:  # noqa: BLE001  (the one place where every bug must become exit 4, never a verdict)
        if "--debug" in words:
            traceback.print_exc()
        line = " ".join(str(error).split())
        typer.echo(f"ME400: internal error: {type(error).__name__}: {line} (--debug shows where)", err=True)
        sys.exit(int(ExitCode.INTERNAL))
