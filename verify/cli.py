"""`mansu-verify`: arguments in, verdict and reports out. Exit codes are those of `verify.errors.ExitCode`.

Heavy imports happen only once a certificate is to be checked, so that help, version and usage errors are instant.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify.errors import ExitCode, MansuError, UsageError

if TYPE_CHECKING:
    from verify.contract.result import Result

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RENDERED = ("html", "json", "text")

Progress = Callable[[str, int, int], None]


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
        raise typer.Exit(_prove(format_, output))
    if manifest is None:
        raise UsageError("no manifest given", remedy="add --manifest OUT/m.json")
    if show:
        typer.echo(_shown_manifest(manifest))
        return
    if model is None:
        raise UsageError("no model given", remedy="name the model folder or its model.safetensors")
    reports = [_report(text, model, manifest) for text in report or []]
    if output is not None:
        _require_outside(output, model, manifest)
    pinned = dict(_pinned(text) for text in base_digest or [])

    from verify.check import check  # noqa: PLC0415  (torch and transformers take seconds to import)

    with _progress() as progress:
        result = check(
            model, manifest, keys=_keys(key or []), level=checks.value, base_digests=pinned, progress=progress
        )
    for form, path in reports:
        _write(path, _render(result, form))
    rendered = _render(result, format_.value)
    if output is None:
        typer.echo(rendered, nl=False)
    else:
        _write(output, rendered)
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


def _keys(given: Sequence[Path]) -> list[Path]:
    """Return the keys given, else the one that MANSU_KEY names, else none."""
    if given:
        return list(given)
    named = os.environ.get("MANSU_KEY")
    return [Path(named)] if named else []


def _pinned(text: str) -> tuple[str, str]:
    name, _, digest = text.rpartition("=")
    digest = digest.lower()
    if not _DIGEST.fullmatch(digest):
        raise UsageError("--base-digest", expected="[NAME=]SHA256, 64 hexadecimal digits", found=ascii(text))
    return name, digest


def _report(text: str, model: Path, manifest: Path) -> tuple[str, Path]:
    form, _, path = text.partition("=")
    if form not in _RENDERED or not path:
        raise UsageError("--report", expected=f"{', '.join(_RENDERED)} and a path: html=PATH", found=ascii(text))
    _require_outside(Path(path), model, manifest)
    return form, Path(path)


def _require_outside(path: Path, model: Path, manifest: Path) -> None:
    """Refuse to write among the signed files: the next check would find a file too many."""
    folder = model if model.is_dir() else model.parent
    for signed in (folder.resolve(), (manifest.parent / "probes").resolve()):
        if path.resolve().is_relative_to(signed):
            raise UsageError(
                f"{path} lies among the signed files", remedy="write it elsewhere, for instance to report/"
            )
    if path.resolve() == manifest.resolve() or path.name == "ledger.safetensors":
        raise UsageError(f"{path} is a signed file", remedy="write it elsewhere, for instance to report/")
    _require_writable(path)


def _require_writable(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}", expected="a file in an existing folder", remedy="make its folder first"
        )


def _prove(form: Format, output: Path | None) -> ExitCode:
    """Prove or refute every theorem; FAIL if one comes out otherwise than stated."""
    if output is not None:
        _require_writable(output)

    from reports.theorems import render_theorems, render_theorems_json  # noqa: PLC0415  (not needed for help)
    from verify.nf4.proofs import prove_all  # noqa: PLC0415  (imports torch and z3)

    theorems = prove_all()
    rendered = render_theorems_json(theorems) if form is Format.json else render_theorems(theorems)
    if output is None:
        typer.echo(rendered, nl=False)
    else:
        _write(output, rendered)
    return ExitCode.PASS if all(theorem.holds for theorem in theorems) else ExitCode.FAIL


def _shown_manifest(path: Path) -> str:
    """Return the manifest as ASCII JSON, on the warning that nobody has verified it."""
    from verify.artefact import read_regular, read_unverified  # noqa: PLC0415  (imports torch)

    if not path.is_file():
        raise UsageError(f"there is no manifest at {path}", remedy="give the certificate's m.json")
    statement = read_unverified(read_regular(path.name, root=path.parent))
    typer.echo("unverified: no signature and no file was checked", err=True)
    return json.dumps(statement.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=True)


def _render(result: "Result", form: str) -> str:
    from reports import render_html, render_json, render_text  # noqa: PLC0415  (jinja2 is not needed for help)

    return {"html": render_html, "json": render_json, "text": render_text}[form](result)


def _write(path: Path, text: str) -> None:
    from verify.artefact import write_atomic  # noqa: PLC0415  (imports torch)

    write_atomic(path, text.encode())


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show one bar a step on stderr, with a time estimate."""
    from rich.console import Console  # noqa: PLC0415  (not needed for help)
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (TextColumn("{task.description:<36}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Bars(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total)
            bars.update(tasks[title], completed=done, total=total)

        yield report


if __name__ == "__main__":
    main()
