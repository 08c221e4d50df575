"""Certification reports: they render a `verify.contract` result and compute nothing. One module a format.

`reports.pdf` is not imported here: it needs Pango, which a machine may lack.
"""

from reports.card import render_card
from reports.junit import render_junit, render_junit_failure
from reports.markdown import render_entry, render_markdown, render_markdown_failure
from reports.render import render_circuit, render_html, render_json, render_json_failure
from reports.sarif import render_sarif, render_sarif_failure
from reports.text import coloured, render_entry_text, render_text

__all__ = [
    "coloured",
    "render_card",
    "render_circuit",
    "render_entry",
    "render_entry_text",
    "render_html",
    "render_json",
    "render_json_failure",
    "render_junit",
    "render_junit_failure",
    "render_markdown",
    "render_markdown_failure",
    "render_sarif",
    "render_sarif_failure",
    "render_text",
]
