"""The same page as the HTML report, as PDF/UA: tagged for screen readers, nothing fetched, result.json attached.

The same result gives the same bytes on the same machine: fonts are the machine's own.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from xml.etree.ElementTree import Element

from pydyf import PDF
from weasyprint import CSS, HTML, Attachment, Document
from weasyprint.urls import URLFetcher

from reports import sections
from reports.pdf_tags import finish
from reports.render import page_css, render_html, render_json
from verify.contract.result import Result

ATTACHED = "result.json"
SIGNED = "result.intoto.json"
_RELATIONSHIPS = {ATTACHED: "Source", SIGNED: "Supplement"}
_SVG = "{http://www.w3.org/2000/svg}"


def render_pdf(result: Result, signed: bytes | None = None) -> bytes:
    """Return the report as one PDF file (PDF/UA-1), with the result as an attached JSON file.

    `signed` is the verifier's signed report on that JSON file, if it signs; it is attached beside it.

    Raises weasyprint's FatalURLFetchingError if the page asked for anything outside itself; it never does.
    """
    data = render_json(result).encode()
    started = datetime.fromisoformat(result.timing.started)
    page = HTML(string=render_html(result), url_fetcher=refusing())
    _style_figures(page.etree_element, result.verdict)
    document = page.render(stylesheets=[CSS(string=_template("pdf.css"), url_fetcher=refusing())])
    document.metadata.created = document.metadata.modified = result.timing.started
    attached = [_attached(data, ATTACHED, "The result that this report renders", started)]
    if signed is not None:
        attached.append(_attached(signed, SIGNED, f"The verifier's signed report on {ATTACHED}", started))
    document.metadata.attachments = attached
    targets = {"verdict": "the verdict", **sections.titles(result)}

    def finisher(_: Document, pdf: PDF) -> None:
        finish(pdf, targets=targets, relationships=_RELATIONSHIPS)

    identifier = hashlib.sha256(data).digest()[:16]
    with _dated(started):
        return bytes(document.write_pdf(finisher=finisher, pdf_variant="pdf/ua-1", pdf_identifier=identifier))


def _attached(data: bytes, name: str, description: str, moment: datetime) -> Attachment:
    return Attachment(
        string=data,
        name=name,
        description=description,
        relationship=_RELATIONSHIPS[name],
        created=moment,
        modified=moment,
        url_fetcher=refusing(),
    )


def refusing() -> URLFetcher:
    """Return a fetcher that admits no protocol, and makes any attempt an error that ends the rendering."""
    return URLFetcher(allowed_protocols=(), allow_redirects=False, fail_on_errors=True)


def _style_figures(page: Element, verdict: str) -> None:
    """Give every figure the page's style sheet, as the renderer draws each as a document of its own, and its words.

    The renderer takes a figure's title for its alternative text, so the description joins it; of what has none, the
    verdict's symbol, which the page hides from screen readers as the word stands beside it, PDF/UA wants words too.
    """
    css = figure_css(page_css())
    for svg in list(page.iter(f"{_SVG}svg")):
        title, description = svg.find(f"{_SVG}title"), svg.find(f"{_SVG}desc")
        if title is None:
            title = Element(f"{_SVG}title")
            title.text = f"Symbol of the verdict: {verdict}"
            svg.insert(0, title)
        elif description is not None:
            title.text = f"{title.text}. {description.text}"
        style = Element(f"{_SVG}style")
        style.text = css
        svg.insert(0, style)


def figure_css(css: str) -> str:
    """Return a style sheet with its custom properties and font shorthands written out, as the renderer wants them."""
    values: dict[str, str] = dict(re.findall(r"(--[\w-]+): ([^;}]+)", css))
    css = re.sub(r"var\((--[\w-]+)\)", lambda match: values[match[1]], css)
    return re.sub(r"font: ([\d.]+px) ([^;}]+);", r"font-size: \1; font-family: \2;", css)


def _template(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")


@contextmanager
def _dated(moment: datetime) -> Iterator[None]:
    """Have the fonts in the file dated by the run, by the variable that their library reads, and not by the clock."""
    name = "SOURCE_DATE_EPOCH"
    before = os.environ.get(name)
    os.environ[name] = str(int(moment.timestamp()))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
