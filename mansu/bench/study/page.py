"""The tables of a suite as one HTML page: no scripts, nothing from outside."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mansu.bench.study.figure import figure, meets_all
from mansu.bench.study.summary import Document
from mansu.bench.study.tables import intro, tables

_FIGURE_NOTE = (
    "Each method by what it leaves of the forget set after NF4, against the most that a row of facts loses, the rise "
    "of perplexity (dashed lines: the criteria) and the share of parameters it changes. Filled: all four axes met."
)


def page(found: Document) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("mansu.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # the figure is our own drawing, its words escaped where it was made
    drawing = Markup(figure(found)) if any(line.measured for line in found.lines) else None  # noqa: S704
    return environment.get_template("bench.html.j2").render(
        suite=found.suite,
        intro=intro(found),
        tables=tables(found),
        meets_all=meets_all,
        figure=drawing,
        figure_note=_FIGURE_NOTE,
    )
