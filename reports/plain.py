"""Text from an artefact on its way into a format that people read in logs: nothing hidden, nothing obeyed."""

import json
from typing import Any

from reports import wording


def neutral(text: str) -> str:
    """Return `text` with hidden characters shown and the marks of CI commands (`::`, `##`) broken by a space."""
    shown = wording.visible(text)
    for mark in (":", "#"):
        while mark * 2 in shown:
            shown = shown.replace(mark * 2, f"{mark} {mark}")
    return shown


def ascii_json(document: dict[str, Any]) -> str:
    """Return a document as indented ASCII JSON with a final newline, harmless in a log: see `harmless`."""
    return harmless(json.dumps(document, indent=2, ensure_ascii=True)) + "\n"


def harmless(text: str) -> str:
    """Return JSON text of the same meaning without two `#` in a row, which some CI logs read as a command's start."""
    return text.replace("##", "#\\u0023")
