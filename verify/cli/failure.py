"""When there is no result: a diagnostic on stderr, and the same in the form that stdout was asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify.cli.output import deliver, render_failure
from verify.errors import MansuError, UsageError

if TYPE_CHECKING:
    from verify.contract.failure import Failure

FORMS = ("json", "markdown", "sarif", "junit")
"""Forms of `--format` that say something on stdout even then."""


def form_asked(words: Sequence[str], forms: Sequence[str] = FORMS) -> str:
    """Return the form that a command line asks for, also where the command line is wrong elsewhere; text by default."""
    form = "text"
    for at, word in enumerate(words):
        if word == "--":
            break
        if word == "--format" and at + 1 < len(words):
            form = words[at + 1]
        elif word.startswith("--format="):
            form = word.removeprefix("--format=")
    return form if form in forms else "text"


def report(failure: "Failure", form: str, name: str) -> None:
    """Print an error in the form asked for, on stdout even with -o: a path may be what is wrong."""
    deliver(render_failure(failure, form, name), None)


def of_error(error: MansuError) -> "Failure":
    """Return an error of ours as data."""
    from verify.contract.failure import Failure  # noqa: PLC0415  (pydantic is not needed for help)

    return Failure(
        id=error.id,
        message=error.message,
        expected=error.expected,
        found=error.found,
        remedy=error.remedy,
        exit_code=int(error.exit_code),
    )


def of_usage(message: str, name: str) -> "Failure":
    """Return what the parser of a command's line says, as data."""
    return of_error(UsageError(message, remedy=f"{name} --help lists every option"))


def of_bug(error: BaseException) -> "Failure":
    """Return what was not foreseen as data, in one line."""
    line = " ".join(str(error).split())
    return of_error(MansuError(f"internal error: {type(error).__name__}: {line}", remedy="--debug shows where"))
