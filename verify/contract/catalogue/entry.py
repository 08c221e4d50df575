"""How an id is declared: a class named by it, whose docstring says everything.

Its first line is the title; then come what it means, in one paragraph or more, a paragraph that begins with "Why: ",
and one that begins with "Fix: ".

The docstring is the only source: titles in results, `--explain`, the pages in docs/checks/ and the rules of SARIF all
come from it.
"""

import inspect
import re
from dataclasses import dataclass
from types import ModuleType

from verify.errors import UsageError

_ID = re.compile(r"M[VE]\d{3}")
_SECTIONS = ("Why", "Fix")


@dataclass(frozen=True, slots=True)
class Entry:
    """One id: the group it belongs to, and its texts. Paragraphs are separated by a blank line, lines are joined."""

    id: str
    group: str
    title: str
    meaning: str
    why: str
    fix: str


def entries_of(module: ModuleType) -> tuple[Entry, ...]:
    """Return the entries that a module declares, in their order there; its `GROUP` is the group of them all."""
    group: str = module.GROUP
    return tuple(
        read(name, group, inspect.getdoc(value)) for name, value in vars(module).items() if _ID.fullmatch(name)
    )


def read(entry_id: str, group: str, docstring: str | None) -> Entry:
    """Return the entry of a docstring; ValueError if a part is missing, UsageError if Python dropped all docstrings."""
    if docstring is None:
        raise UsageError(
            "Python was told to drop docstrings, and the checks are described by theirs",
            found="-OO or PYTHONOPTIMIZE=2",
            remedy="run without it",
        )
    title, *paragraphs = [" ".join(paragraph.split()) for paragraph in docstring.split("\n\n")]
    texts: dict[str, list[str]] = {section: [] for section in ("", *_SECTIONS)}
    current = ""
    for paragraph in paragraphs:
        head, colon, rest = paragraph.partition(": ")
        if colon and head in _SECTIONS:
            current, paragraph = head, rest[:1].upper() + rest[1:]  # noqa: PLW2901  (the head is no part of the text)
        texts[current].append(paragraph)
    meaning, why, fix = ("\n\n".join(texts[section]) for section in ("", *_SECTIONS))
    if not (title.endswith(".") and meaning and why and fix):
        raise ValueError(f"{entry_id}: a title that ends in a full stop, what it means, 'Why: ' and 'Fix: '")
    return Entry(entry_id, group, title.removesuffix("."), meaning, why, fix)
