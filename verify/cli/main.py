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
    base_signature: Annotated[
        Path | None,
        typer.Option(help="The vendor's OMS bundle (model_signing) over the base model.", show_default=False),
    ] = None,
    base_key: Annotated[
        Path | None, typer.Option(help="The vendor's public key, PEM, for --base-signature.", show_default=False)
    ] = None,
    cert_root: Annotated[
        list[Path] | None,
        typer.Option(help="Root certificate you trust, PEM; repeatable. With --cert-identity.", show_default=False),
    ] = None,
    cert_identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whom the signer's certificate must name: an e-mail address, a URI or a DNS name, exactly.",
            show_default=False,
        ),
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
    if prove:
        raise typer.Exit(prove_theorems(format_.value, output))
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
    digests = dict(pinned(text) for text in base_digest or [])

    from verify.artefact.anchors import AnchorFiles  # noqa: PLC0415  (not needed for help)
    from verify.check import check  # noqa: PLC0415  (torch and transformers take seconds to import)

    anchors = AnchorFiles(
        keys=() if cert_root and not key else tuple(keys(key or [])),  # MANSU_KEY only where nobody else is named
        cert_roots=tuple(cert_root or []),
        cert_identity=cert_identity,
        base_digests=digests,
        base_signature=base_signature,
        base_key=base_key,
    )
    with bars() as progress:
        result = check(model, manifest, anchors=anchors, level=checks.value, progress=progress)
    for form, path in reports:
        deliver(render(result, form), path)
    deliver(render(result, format_.value), output)
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
