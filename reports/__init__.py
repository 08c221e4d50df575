"""Certification reports: they render a `verify.contract` result and compute nothing."""

from reports.render import render_html, render_json
from reports.text import render_text

__all__ = ["render_html", "render_json", "render_text"]
