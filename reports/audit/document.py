"""An audit as JSON, whole: what a program reads."""

from reports.plain import harmless
from verify.contract.audit import Audit


def render_audit_json(audit: Audit) -> str:
    """Return the audit as indented ASCII JSON with a final newline; `Audit.model_validate_json` reads it back."""
    return harmless(audit.model_dump_json(indent=2, by_alias=True, ensure_ascii=True)) + "\n"
