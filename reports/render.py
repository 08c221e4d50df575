"""HTML and JSON of a result. The page is one file: no script, no outside asset, its one style sheet named by hash."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import figures, measurements, policy_words, sections, summary, wording
from reports.circuit import circuit, tables
from reports.clauses import SOURCES
from reports.deviations import deviations
from reports.plain import harmless
from reports.tradeoff import rows as tradeoff_rows
from reports.tradeoff import tradeoff
from verify.contract.circuit import CircuitMap
from verify.contract.failure import Failure
from verify.contract.result import Erasure, Permanence, Result


def render_html(result: Result) -> str:
    """Return the result as one self-contained HTML page; strings of the result are escaped, hidden characters shown."""
    sha256 = hashlib.sha256(render_json(result).encode()).hexdigest()
    css = page_css() + running(result, sha256)
    page = (
        _environment()
        .get_template("certificate.html.j2")
        .render(
            r=result,
            sha256=sha256,
            titles=sections.titles(result),
            empty=sections.empty(result),
            deviations=deviations(result),
            sources=SOURCES,
            axes_figure=measurements.axes(result.axes, result.policy.forget_accuracy),
            css=Markup(css),  # noqa: S704  (our own file, and the policy below admits only its hash)
            css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
            permanence=[(profile, _permanence_figures(profile, result.policy.margin)) for profile in result.permanence],
            tradeoff_figure=tradeoff(result.tradeoff) if result.tradeoff else None,
            tradeoff_rows=tradeoff_rows(result.tradeoff) if result.tradeoff else (),
            erasure_figures=_erasure_figures(result.erasure) if result.erasure else None,
            circuit_tables=tables(result.erasure.map) if result.erasure and result.erasure.map else (),
        )
    )
    return page.replace("##", "#&#35;")  # some CI logs that print a page would read it as the start of a command


def page_css() -> str:
    """Return the page's one style sheet."""
    return _template("certificate.css") + _template("circuit.css")


def running(result: Result, sha256: str) -> str:
    """Return the rules of what runs at head and foot of every printed page: verdict, date, digest, page of pages."""
    day = result.timing.started[:10]
    day = day if day.replace("-", "").isdigit() else ""  # the one string that is not our own
    return (
        f'@page {{ @top-left {{ content: "Unlearning certification report: {result.verdict}"; }}'
        f' @top-right {{ content: "{day}"; }} @bottom-left {{ content: "result.json, SHA-256 {sha256}"; }}'
        ' @bottom-right { content: "Page " counter(page) " of " counter(pages); } }\n'
        "@page :first { @top-left { content: none; } @top-right { content: none; } }\n"
    )


def render_circuit(data: CircuitMap, notes: Sequence[str] = ()) -> str:
    """Return the map of a circuit, with lines of notes beneath it, as an SVG file of its own, for light and dark."""
    css = _template("circuit.css") + _template("circuit-alone.css")
    drawing = _environment().get_template("circuit.svg.j2")
    return drawing.render(figure=circuit(data, notes), css=Markup(css)) + "\n"  # noqa: S704  (our own files)


def render_json(result: Result) -> str:
    """Return the result as indented ASCII JSON with a final newline; `Result.model_validate_json` reads it back.

    Characters that a terminal might obey leave as escapes, and so does the second of two `#`, which some CI logs read
    as the start of a command.
    """
    return harmless(result.model_dump_json(indent=2, by_alias=True, ensure_ascii=True)) + "\n"


def render_json_failure(failure: Failure) -> str:
    """Return an error in the same form; `Failure.model_validate_json` reads it back."""
    return harmless(failure.model_dump_json(indent=2, by_alias=True, ensure_ascii=True)) + "\n"


def _template(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("reports"),
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["w"] = wording
    environment.globals["policy_words"] = policy_words
    environment.globals["s"] = summary
    return environment


def _shown(value: object) -> object:
    """Show hidden characters in every string on its way into the page; markup comes only from our own templates."""
    return wording.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _permanence_figures(profile: Permanence, margin: float) -> dict[str, figures.Figure | None]:
    return {
        "update": figures.histogram(
            profile.update_in_half_bins,
            title="Size of the updates",
            x_label="update, in half bin widths",
            mark=1.0,
            mark_label="the floor, 1",
        ),
        "margin": figures.histogram(
            profile.margin,
            title="Margin of the new values",
            x_label="distance to a threshold, in absmax",
            mark=margin,
            mark_label=f"required, {margin:.2g}",
        ),
        "codes": figures.codes(profile.codes_before, profile.codes_after),
    }


def _erasure_figures(erasure: Erasure) -> dict[str, figures.Figure | None]:
    return {
        "cad": measurements.cad(erasure.rows),
        "depth": measurements.depth(
            erasure.depth, layers=erasure.layers, late_from=erasure.late_from, floor=erasure.split_half_floor
        ),
        "circuit": circuit(erasure.map) if erasure.map else None,
    }
