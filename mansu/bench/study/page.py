"""The table of a suite as one HTML page: no scripts, nothing from outside."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mansu.bench.study.figure import figure, meets_all
from mansu.bench.study.markdown import (
    ATTACKS,
    ATTACKS_NOTE,
    AXES,
    COSTS,
    COSTS_NOTE,
    TOFU,
    TOFU_NOTE,
    Show,
    attacked,
    base_cells,
    intro,
    line_cells,
    rule,
    told_apart,
)
from mansu.bench.study.summary import Document

_FIGURE_NOTE = (
    "Each method by what it leaves of the forget set after NF4, against the most that a row of facts loses, the rise "
    "of perplexity (dashed lines: the criteria) and the share of parameters it changes. Filled: all four axes met."
)


def page(found: Document) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("mansu.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    tables = [
        {"caption": "The four axes", "note": rule(found).replace("`", ""), **_table(found, AXES)},
        {"caption": "What they take", "note": COSTS_NOTE, **_table(found, COSTS, with_base=False)},
    ]
    if attacked(found):
        tables.append({"caption": "What they withstand", "note": ATTACKS_NOTE, **_table(found, ATTACKS)})
    if told_apart(found):
        tables.append({"caption": "Told from a model that never knew", "note": TOFU_NOTE, **_table(found, TOFU)})
    # the figure is our own drawing, its words escaped where it was made
    drawing = Markup(figure(found)) if any(line.measured for line in found.lines) else None  # noqa: S704
    return environment.get_template("bench.html.j2").render(
        suite=found.suite, intro=intro(found), tables=tables, figure=drawing, figure_note=_FIGURE_NOTE
    )


def _table(found: Document, columns: Sequence[tuple[str, Show]], *, with_base: bool = True) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    if with_base:
        rows.append({"title": "base", "cells": base_cells(found, columns), "all": False})
    rows += [{"title": line.title, "cells": line_cells(line, columns), "all": meets_all(line)} for line in found.lines]
    return {"columns": [name for name, _ in columns], "rows": rows}
