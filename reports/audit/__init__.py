"""What `mansu-audit` found, in three formats."""

from reports.audit.document import render_audit_json
from reports.audit.markdown import render_audit_markdown
from reports.audit.text import MOST_TENSORS, render_audit

__all__ = ["MOST_TENSORS", "render_audit", "render_audit_json", "render_audit_markdown"]
