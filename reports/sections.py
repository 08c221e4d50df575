"""The sections of the certificate: their anchors and titles, and which of them a result leaves empty."""

from reports import wording
from verify.contract.result import Result

TITLES = {
    "items": "Scope: what this report is about",
    "lineage": "Lineage",
    "trust": "Trust",
    "checks": "Checks",
    "changes": "Parameter changes",
    "permanence": "Permanence under quantization",
    "erasure": "Structural erasure",
    "axes": "Four axes",
    "tradeoff": "Sparsity and permanence",
    "deviations": "Deviations",
    "policy": "Policy and decision rule",
    "limits": "What this report does not prove",
    "clauses": "Where evidence for a clause stands",
    "repeat": "How to repeat it",
    "glossary": "Glossary",
}


def titles(result: Result) -> dict[str, str]:
    """Return the title of every section by its anchor, in the order of the page."""
    return {**TITLES, "items": f"Scope: {wording.examined(result).lower()}"}


def empty(result: Result) -> frozenset[str]:
    """Return the anchors of sections that hold no evidence in this result, because a part was not run or stopped."""
    held = {
        "items": bool(result.files),
        "lineage": result.provenance is not None,
        "checks": bool(result.checks),
        "changes": bool(result.permanence),
        "permanence": bool(result.permanence),
        "erasure": result.erasure is not None,
        "axes": bool(result.axes or result.erasure),
        "tradeoff": result.tradeoff is not None or bool(result.axes and result.permanence),
    }
    return frozenset(anchor for anchor, present in held.items() if not present)
