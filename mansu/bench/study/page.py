"""The table of a suite as one HTML page: no scripts, nothing from outside."""

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mansu.bench.study.figure import figure, meets_all
from mansu.bench.study.markdown import AXES, COSTS, COSTS_NOTE, Show, axes_of, intro, rule
from mansu.bench.study.summary import Document, Over, base_line

_FIGURE_NOTE = (
    "Each method by what it leaves of the forget set after NF4, against the most that a row of facts loses (left; the "
    "dashed line is the criterion) and the share of parameters it changes (right). Filled: all four axes met."
)


def page(found: Document) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("mansu.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    base = base_line(found)
    tables = [
        {"caption": "The four axes", "note": rule(found, base), **_table(found, base, AXES)},
        {"caption": "What they take", "note": COSTS_NOTE, **_table(found, None, COSTS)},
    ]
    # the figure is our own drawing, its words escaped where it was made
    drawing = Markup(figure(found)) if any(line.measured for line in found.lines) else None  # noqa: S704
    return environment.get_template("bench.html.j2").render(
        suite=found.suite, intro=intro(found), tables=tables, figure=drawing, figure_note=_FIGURE_NOTE
    )


def _table(
    found: Document, base: Mapping[str, Over | None] | None, columns: Sequence[tuple[str, Show]]
) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    if base is not None:
        shown = ["" if name == "axes" else show(base) for name, show in columns]
        rows.append({"title": "base", "cells": shown, "all": False})
    for line in found.lines:
        shown = [axes_of(line) if name == "axes" else show(line.numbers) for name, show in columns]
        rows.append({"title": line.title, "cells": shown, "all": meets_all(line)})
    return {"columns": [name for name, _ in columns], "rows": rows}
