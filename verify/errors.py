"""One error base for the whole product: what was expected, what was found, and what to do next."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of both command lines (README.md)."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    UNDECIDED = 3
    INTERNAL = 4
    INTERRUPTED = 130


class MansuError(Exception):
    """Base of every error raised on purpose.

    `id` is stable and appears in every output format; `exit_code` is what the command line returns.
    """

    id = "ME400"
    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def diagnostic(self) -> str:
        """Return the error as lines of text for a terminal, id first."""
        lines = [f"{self.id}: {self.message}"]
        for label, text in (("expected", self.expected), ("found", self.found), ("next", self.remedy)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class UsageError(MansuError):
    """The command, a set, a configuration or a model folder cannot be used as given. Exit code 2."""

    id = "ME200"
    exit_code = ExitCode.USAGE

    def __init__(
        self, message: str, *, expected: str = "", found: str = "", remedy: str = "", error_id: str = "ME200"
    ) -> None:
        super().__init__(message, expected=expected, found=found, remedy=remedy)
        self.id = error_id


class ArtefactError(MansuError):
    """An artefact is refused; `check_id` names the check (MV...) that refuses it. Exit code 1."""

    exit_code = ExitCode.FAIL

    def __init__(self, check_id: str, message: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        super().__init__(message, expected=expected, found=found, remedy=remedy)
        self.id = check_id


class InterruptedCommand(MansuError):  # noqa: N818  (a person's wish is no error)
    """Ctrl-C, or a signal that means the same. Exit code 130."""

    id = "ME130"
    exit_code = ExitCode.INTERRUPTED


class UndecidedError(MansuError):
    """The evidence does not suffice to decide either way. Exit code 3, never a pass."""

    id = "ME300"
    exit_code = ExitCode.UNDECIDED
