"""Results on their way out: rendered by `reports`, written as a whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from verify.contract.result import Result


def render(result: "Result", form: str) -> str:
    """Return the result in one of the forms of `verify.cli.arguments.REPORTS`."""
    from reports import render_html, render_json, render_text  # noqa: PLC0415  (jinja2 is not needed for help)

    return {"html": render_html, "json": render_json, "text": render_text}[form](result)


def deliver(text: str, path: Path | None) -> bytes:
    """Write to a file, through a temporary name, or to stdout; return the bytes of the file."""
    data = text.encode()
    if path is None:
        typer.echo(text, nl=False)
        return data

    from verify.artefact import write_atomic  # noqa: PLC0415  (not needed for help)

    write_atomic(path, data)
    return data
