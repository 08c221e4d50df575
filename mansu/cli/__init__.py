"""`mansu`: keys, unlearning, patches, the demo, the benchmark, the tradeoff, circuits, calibration, model cards.

Logs and progress go to stderr; exit codes are those of `ExitCode`.
"""

import sys
import traceback

import typer

from mansu.cli import making, patching, studying  # noqa: F401  (each registers its commands)
from mansu.cli.app import app
from verify.errors import ExitCode, MansuError

__all__ = ["main"]


def main() -> None:
    """Run the command line; every error becomes a message and a documented exit code."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(args=words, prog_name="mansu")
    except MansuError as error:
        typer.echo(error.diagnostic(), err=True)
        sys.exit(int(error.exit_code))
    except SystemExit as stop:
        # typer turns Ctrl-C into this exit without a word
        if stop.code == ExitCode.INTERRUPTED:
            typer.echo("interrupted: nothing was left half-written", err=True)
        raise
    except Exception as error:  # noqa: BLE001  (the one place where every bug must become exit 4)
        if "--debug" in sys.argv:
            traceback.print_exc()
        line = " ".join(str(error).split())
        typer.echo(f"ME400: internal error: {type(error).__name__}: {line} (--debug shows where)", err=True)
        sys.exit(int(ExitCode.INTERNAL))
