"""What PDF/UA-1 asks of the file and its writer leaves undone, put right in the objects before they are written.

Terms and descriptions become the labels and bodies of list items, links say where they lead in words, and attached
files say what they are to the report (ISO 14289-1, 7.6, 7.18.5; ISO 32000-2, 7.11.3, which older readers ignore).
"""

from collections.abc import Mapping
from typing import Any

from pydyf import PDF, Array, Dictionary, String


def finish(pdf: PDF, *, targets: Mapping[str, str], relationships: Mapping[str, str]) -> None:
    """Mend a tagged file: `targets` maps anchors to words, `relationships` names of attached files to what they are."""
    found = {entry.reference: entry for entry in pdf.objects if isinstance(entry, Dictionary)}
    for entry in list(found.values()):
        if entry.get("S") == "/L":
            _mend_list(entry, found)
        elif entry.get("Subtype") == "/Link" and "Dest" in entry:
            target = _text(entry["Dest"])
            entry["Contents"] = String(f"To: {targets.get(target, target)}")
    attached = [entry for entry in found.values() if entry.get("Type") == "/Filespec"]
    for entry in attached:
        entry["AFRelationship"] = f"/{relationships[_text(entry['UF'])]}"
    if attached:
        pdf.catalog["AF"] = Array([entry.reference for entry in attached])


def _mend_list(entry: Dictionary, found: Mapping[bytes, Dictionary]) -> None:
    """Make a pair of term and description, which is wrapped, one item: its term the label, the rest its body."""
    for group in _children(entry, found):
        if group.get("S") != "/Div":
            continue
        group["S"] = "/LI"
        parts = _children(group, found)
        for place, part in enumerate(parts):
            part["S"] = "/Lbl" if place == 0 and len(parts) > 1 else "/LBody"
            for inner in _children(part, found):
                if inner.get("S") == "/LBody":
                    inner["S"] = "/NonStruct"


def _children(entry: Dictionary, found: Mapping[bytes, Dictionary]) -> list[Dictionary]:
    return [found[kid] for kid in entry["K"] if isinstance(kid, bytes) and kid in found and "S" in found[kid]]


def _text(value: Any) -> str:
    return str(value.string if isinstance(value, String) else value)
