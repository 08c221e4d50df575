"""`mansu-audit`: two models in, one sentence and tables out. There is no verdict, and so no exit code 1.

0: audited; 2: the command or what it was given cannot be used; 3: audited, but something asked for could not be
decided; 4: internal error; 130: interrupted.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify.cli.arguments import require_writable
from verify.cli.guard import guarded, print_version
from verify.cli.output import deliver, discard
from verify.cli.progress import bars
from verify.errors import UsageError

if TYPE_CHECKING:
    from verify.contract.audit import Audit

NAME = "mansu-audit"


class Format(StrEnum):
    """The form of the audit; it never changes the exit code."""

    text = "text"
    json = "json"
    markdown = "markdown"


app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(value: bool) -> None:
    if value:
        print_version(NAME)


@app.command()
def audit(
    base: Annotated[Path, typer.Argument(help="Model folder before the edit.", show_default=False)],
    edited: Annotated[
        Path, typer.Argument(help="Model folder after the edit, or a LoRA adapter over BASE.", show_default=False)
    ],
    forget: Annotated[
        Path | None, typer.Option(help="Questions that should be forgotten, JSON lines.", show_default=False)
    ] = None,
    retain: Annotated[
        Path | None, typer.Option(help="Questions and texts that should be kept, JSON lines.", show_default=False)
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A certificate's probes/ instead of both sets.", show_default=False),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Form of the audit.")] = Format.text,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the audit here, not to stdout.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="The one sentence only, and no progress.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Every tensor that changed.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on an internal error.")] = False,  # noqa: ARG001  (read by `guarded`)
    version: Annotated[  # noqa: ARG001  (its callback acts)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Say what changed between two models and what NF4 undoes of it: exit 0 audited, 2 usage, 3 undecided, 4 internal.

    Needs no manifest, and gives no verdict. Weights are read in pieces; with --forget or --retain both models are
    loaded and measured, in full precision and after NF4.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other", remedy="leave one of them out")
    if probes is not None and (forget is not None or retain is not None):
        raise UsageError("--probes stands instead of --forget and --retain", remedy="leave one of them out")
    if output is not None:
        _require_apart(output, [base, edited, *(path for path in (forget, retain, probes) if path is not None)])
        require_writable(output)
    discard(output)

    from verify.audit import Sets  # noqa: PLC0415  (numba is not needed for help)
    from verify.audit import audit as run  # noqa: PLC0415

    with bars(shown=not quiet) as progress:
        found = run(base, edited, Sets(forget, retain, probes), progress=progress)
    deliver(_rendered(found, format_.value, quiet=quiet, verbose=verbose), output)
    raise typer.Exit(found.exit_code)


def _rendered(found: "Audit", form: str, *, quiet: bool, verbose: bool) -> str:
    from reports.audit import render_audit, render_audit_json, render_audit_markdown  # noqa: PLC0415  (not for help)
    from reports.text import wrap  # noqa: PLC0415

    if form == "json":
        return render_audit_json(found)
    if form == "markdown":
        return render_audit_markdown(found)
    return "\n".join(wrap(found.headline, 80)) + "\n" if quiet else render_audit(found, every=verbose)


def _require_apart(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write over, or into, what is audited: the output is removed before anything is read."""
    place = output.resolve()
    for path in inputs:
        given = path.resolve()
        inside = place.parent == (given if given.is_dir() else given.parent) and (given.is_dir() or given == place)
        if inside or place.is_relative_to(given):
            raise UsageError(f"{output} is among what is audited", remedy="write the audit elsewhere")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; whatever was not foreseen is exit 4 with one line, and a traceback on --debug."""
    guarded(app, NAME, arguments, forms=("json", "markdown"))


if __name__ == "__main__":
    main()
