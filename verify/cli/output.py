"""Results on their way out: rendered by `reports`, written as a whole or not at all."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from verify.errors import UsageError

if TYPE_CHECKING:
    from reports.text import Detail
    from verify.contract.failure import Failure
    from verify.contract.result import Result

_PANGO = (
    "Debian and Ubuntu: apt install libpango-1.0-0 libpangoft2-1.0-0; Fedora: dnf install pango; macOS: brew install"
)


def render(
    result: "Result",
    form: str,
    *,
    detail: "Detail" = "normal",
    colour: bool = False,
    signed: Callable[[str, bytes], bytes | None] | None = None,
) -> str | bytes:
    """Return the result in one of the forms of `verify.cli.arguments.REPORTS`; `detail` and `colour` are for text.

    `signed` returns a signed report on a file of the given name and bytes, if the verifier signs; a PDF carries it.
    """
    import reports  # noqa: PLC0415  (jinja2 is not needed for help)

    if form == "pdf":
        from reports.pdf import ATTACHED, render_pdf  # noqa: PLC0415  (needs Pango, which only this form may ask for)

        return render_pdf(result, signed(ATTACHED, reports.render_json(result).encode()) if signed else None)
    if form == "text":
        text = reports.render_text(result, detail=detail)
        return reports.coloured(text) if colour else text
    if form == "card":
        return reports.render_card(result, hashlib.sha256(reports.render_json(result).encode()).hexdigest())
    renderers: dict[str, Callable[[Result], str]] = {
        "html": reports.render_html,
        "json": reports.render_json,
        "junit": reports.render_junit,
        "markdown": reports.render_markdown,
        "sarif": reports.render_sarif,
    }
    return renderers[form](result)


def render_failure(failure: "Failure", form: str, name: str) -> str:
    """Return an error of the command `name` in one of the forms of stdout; nothing for text: it was told on stderr."""
    import reports  # noqa: PLC0415  (not needed for help)

    if form == "sarif":
        return reports.render_sarif_failure(failure, name)
    renderers: dict[str, Callable[[Failure], str]] = {
        "json": reports.render_json_failure,
        "junit": reports.render_junit_failure,
        "markdown": reports.render_markdown_failure,
    }
    return renderers[form](failure) if form in renderers else ""


def require_renderer(form: str) -> None:
    """Raise UsageError where this machine cannot write a form; asked before the check, not after minutes of it."""
    if form != "pdf":
        return
    try:
        import weasyprint  # noqa: F401, PLC0415  (loads Pango; only this form needs it)
    except (ImportError, OSError) as error:
        raise UsageError(
            "a PDF report cannot be written on this machine",
            expected="weasyprint and the Pango library",
            found=" ".join(str(error).split())[:200],
            remedy=f"install Pango ({_PANGO} pango), or ask for --report html=PATH",
        ) from error


def in_colour(output: Path | None) -> bool:
    """Tell whether to colour text: only on a terminal that can, and unless NO_COLOR says not to (no-color.org)."""
    able = os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    return output is None and able and sys.stdout.isatty()


def discard(path: Path | None) -> None:
    """Remove what an earlier run left where this one will write: if this one dies, nobody may read the old answer."""
    if path is not None and path.is_file() and not path.is_symlink():
        path.unlink()


def deliver(content: str | bytes, path: Path | None) -> bytes:
    """Write to a file, through a temporary name, or text to stdout; return the bytes."""
    data = content.encode() if isinstance(content, str) else content
    if path is None:
        typer.echo(content, nl=False)
        return data

    from verify.artefact import write_atomic  # noqa: PLC0415  (not needed for help)

    write_atomic(path, data)
    return data
