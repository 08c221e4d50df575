"""The command's options.

Heavy imports happen only once a certificate is to be checked, so that help, version and usage errors are instant.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify.cli.arguments import completed_ids, completed_reports, keys, pins
from verify.cli.checking import Delivery, Order, check_certificate
from verify.cli.guard import guarded, print_version
from verify.cli.reported import check_report as check_signed_report
from verify.cli.reported import require_nothing_else
from verify.cli.standalone import explain as explained
from verify.cli.standalone import prove as prove_theorems
from verify.cli.standalone import shown_manifest
from verify.errors import UsageError

if TYPE_CHECKING:
    from reports.text import Detail


class Checks(StrEnum):
    """How far to go: `static` runs no model."""

    static = "static"
    full = "full"


class Format(StrEnum):
    """The form of the result on stdout; it never changes the exit code."""

    text = "text"
    json = "json"
    markdown = "markdown"
    sarif = "sarif"
    junit = "junit"


app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(value: bool) -> None:
    if value:
        print_version("mansu-verify")


@app.command()
def verify(
    model: Annotated[
        Path | None, typer.Argument(help="Model folder, its model.safetensors or its .index.json.", show_default=False)
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="The certificate's m.json.", show_default=False)] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Public key you trust, PEM; repeatable. Default: the path in MANSU_KEY.",
            show_default=False,
        ),
    ] = None,
    checks: Annotated[Checks, typer.Option(help="static runs no model.")] = Checks.full,
    format_: Annotated[Format, typer.Option("--format", help="Form of the result on stdout.")] = Format.text,
    report: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORM=PATH",
            help="Write a report too: html, pdf, json, text, markdown, sarif, junit or card; repeatable.",
            show_default=False,
            autocompletion=completed_reports,
        ),
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
        typer.Option(
            metavar="PATH",
            help="Root certificate you trust, PEM; repeatable. With --cert-identity.",
            show_default=False,
        ),
    ] = None,
    cert_identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whom the signer's certificate must name: an e-mail address, a URI or a DNS name, exactly.",
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
        typer.Option(
            "--result",
            metavar="PATH",
            help="With --check-report: a file it binds that lies elsewhere.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="What the certificate must meet, TOML; see docs/policy.md.", show_default=False),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Measure on your own probes, not the producer's.", show_default=False),
    ] = None,
    certified: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="The certified model, where MODEL is what bitsandbytes made of it and saved in NF4. Default: model/ "
            "beside the manifest.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="The verdict's line only, and no progress.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Every check in full, and all that was read.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Say what an id such as MV203 means, why it matters and how to fix it, and stop.",
            show_default=False,
            autocompletion=completed_ids,
        ),
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Prove the theorems behind the permanence rows, and stop; no manifest.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the decoded manifest, unverified, and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on an internal error.")] = False,  # noqa: ARG001  (read by `guarded`)
    version: Annotated[  # noqa: ARG001  (its callback acts)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Check an unlearning certificate: exit 0 PASS, 1 FAIL, 2 usage, 3 undecided, 4 internal error."""
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other", remedy="leave one of them out")
    if result_files and check_report is None:
        raise UsageError("--result goes with --check-report only", remedy="to write a result: --report json=PATH")
    if sign_with is not None and (prove or show):
        raise UsageError("--sign-with: there is no result to sign", remedy="leave out --prove and --show")
    if explain is not None:
        typer.echo(explained(explain, format_.value), nl=False)
        raise typer.Exit
    if check_report is not None:
        require_nothing_else(
            sign_with=sign_with is not None,
            report=bool(report),
            base_digest=bool(base_digest),
            base_signature=base_signature is not None,
            base_key=base_key is not None,
            cert_root=bool(cert_root),
            cert_identity=cert_identity is not None,
            policy=policy is not None,
            probes=probes is not None,
            certified=certified is not None,
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
    if prove:
        raise typer.Exit(prove_theorems(format_.value, output))
    if show and manifest is not None:
        typer.echo(shown_manifest(manifest))
        raise typer.Exit
    order = Order(
        model=model,
        manifest=manifest,
        level=checks.value,
        keys=() if cert_root and not key else tuple(keys(key or [])),  # MANSU_KEY only where nobody else is named
        cert_roots=tuple(cert_root or ()),
        cert_identity=cert_identity,
        base_digests=pins(base_digest or []),
        base_signature=base_signature,
        base_key=base_key,
        policy=policy,
        probes=probes,
        certified=certified,
    )
    detail: Detail = "quiet" if quiet else "verbose" if verbose else "normal"
    raise typer.Exit(check_certificate(order, Delivery(format_.value, output, tuple(report or ()), sign_with, detail)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; whatever was not foreseen is exit 4 with one line, and a traceback on --debug."""
    guarded(app, "mansu-verify", arguments)
