"""The lines of a set, as JSON: prompts with answers, multiple choice, and prose."""

import hashlib
import json
from pathlib import Path
from typing import TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from verify.contract.schema import Schema
from verify.errors import UsageError

LETTERS = "ABCDEFGHIJ"
"""What choices are called, in order."""


class Cloze(Schema):
    """A prompt that its answer continues. `fact` names what all wordings of one fact share; `group` is its kind."""

    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    alternatives: tuple[str, ...] = ()
    corrupt: str | None = None
    group: str = "facts"
    fact: str | None = None


class MultipleChoice(Schema):
    """A question with lettered choices; `answer` is the index of the right one.

    `corrupt` is another question of the same token length; asked with these choices, none of them is known for right.
    """

    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2, max_length=len(LETTERS))
    answer: int = Field(ge=0)
    corrupt: str | None = None
    group: str = "questions"
    fact: str | None = None


class Prose(Schema):
    """Plain text to keep modelling as well as before."""

    text: str = Field(min_length=1)


Line: TypeAlias = Cloze | MultipleChoice | Prose
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


def read_lines(path: Path, which: str) -> tuple[list[Line], str]:
    """Read a set, called `which` in errors; return its lines and the sha256 of the file.

    Raises `UsageError` ME201 (missing or empty set), ME202 (malformed line).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise set_error(
            "ME201", f"the {which} set cannot be read", str(path), error.strerror or "unreadable"
        ) from error
    lines = []
    for number, raw in enumerate(data.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            lines.append(_LINE.validate_python(json.loads(raw), strict=False))
        except (ValueError, ValidationError) as error:
            raise set_error("ME202", f"{which} set, line {number} is malformed", str(path), _first(error)) from error
    if not lines:
        raise set_error("ME201", f"the {which} set is empty", str(path), "no lines")
    return lines, hashlib.sha256(data).hexdigest()


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return f"not JSON: {error}"


def set_error(identity: str, message: str, path: str, found: str) -> UsageError:
    """Return the error of a set that cannot be used."""
    return UsageError(
        message,
        expected='JSON lines such as {"prompt": "The capital of France is", "answer": "Paris"}',
        found=f"{found} ({path})",
        remedy="correct the file; README.md describes the three kinds of lines",
        error_id=identity,
    )
