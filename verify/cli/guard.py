"""A command run to its exit: every error becomes an id, an exit code, and the same in the form that stdout asks for."""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, cast

import typer

from verify.cli import failure
from verify.errors import ExitCode, InterruptedCommand, MansuError

if TYPE_CHECKING:
    from verify.contract.failure import Failure


def guarded(
    app: Callable[..., int | None],
    name: str,
    arguments: Sequence[str] | None,
    *,
    forms: Sequence[str] = failure.FORMS,
) -> None:
    """Run a command and exit; whatever was not foreseen is exit 4 with one line, and a traceback on --debug.

    `forms` are those of its `--format` in which an error too is said on stdout.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    form = failure.form_asked(words, forms)
    try:
        code = app(args=words, prog_name=name, standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # typer's answer to Ctrl-C
            raise InterruptedCommand("interrupted")  # noqa: TRY301  (one exit for both ways that it arrives)
        sys.exit(code or 0)
    except _UnusableCommand as error:
        error.show()
        _stop(failure.of_usage(error.format_message(), name), form, name)
    except MansuError as error:
        typer.echo(error.diagnostic(), err=True)
        _stop(failure.of_error(error), form, name)
    except KeyboardInterrupt:
        typer.echo("ME130: interrupted", err=True)
        _stop(failure.of_error(InterruptedCommand("interrupted")), form, name)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  (the one place where every bug, a panic of Rust too, must become exit 4, never a verdict)
        if "--debug" in words:
            traceback.print_exc()
        bug = failure.of_bug(error)
        typer.echo(f"{bug.id}: {bug.message} ({bug.remedy})", err=True)
        _stop(bug, form, name)


_UnusableCommand = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What typer raises for every command line that it cannot use; it exports only this heir of it by name."""


def _stop(failed: "Failure", form: str, name: str) -> NoReturn:
    """Print the error in the form asked for, and exit with its code even if that cannot be printed."""
    try:
        failure.report(failed, form, name)
    finally:
        sys.exit(failed.exit_code)


def print_version(name: str) -> None:
    """Print a command's name and version, and stop."""
    from importlib.metadata import version  # noqa: PLC0415  (only for --version)

    typer.echo(f"{name} {version('mansu')}")
    raise typer.Exit
