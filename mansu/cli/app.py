"""The application that the commands register with."""

from typing import Annotated

import typer

import mansu

app = typer.Typer(
    no_args_is_help=True,
    help="Unlearning that survives NF4 quantization, with the evidence.",
    rich_markup_mode=None,  # plain help, as of mansu-verify: the README holds both
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Unlearning that survives NF4 quantization, with the evidence."""
    if version:
        typer.echo(f"mansu {mansu.__version__}")
        raise typer.Exit
