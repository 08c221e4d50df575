"""PDF: nothing fetched, tagged, the result attached, the same bytes again."""

import re
import socket
import zlib

import pytest
from test_reports_render import load, poisoned

weasyprint = pytest.importorskip("weasyprint", exc_type=OSError, reason="Pango is not installed")

from weasyprint.urls import FatalURLFetchingError, URLFetcher  # noqa: E402  (only where the import above worked)

from reports.pdf import figure_css, refusing, render_pdf  # noqa: E402
from reports.render import render_json  # noqa: E402


def streams(pdf: bytes) -> list[bytes]:
    found = []
    for data in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL):
        try:
            found.append(zlib.decompress(data))
        except zlib.error:
            found.append(data)
    return found


def test_the_report_is_pdf_ua_with_the_result_attached_and_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(_self: URLFetcher, url: str, _headers: object = None) -> None:
        asked.append(url)
        raise ValueError(url)

    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(URLFetcher, "fetch", fetch)
    monkeypatch.setattr(socket, "socket", no_socket)
    result = load("fail_static")
    pdf = render_pdf(result)
    assert asked == []
    assert pdf.startswith(b"%PDF-1.7")
    inside = streams(pdf)
    assert render_json(result).encode() in inside
    assert any(b"pdfuaid" in stream for stream in inside)
    whole = b"\n".join((pdf, *inside))
    assert b"/MarkInfo" in whole
    assert b"/StructTreeRoot" in whole
    assert b"20261124080211" in whole


def test_the_same_result_gives_the_same_bytes_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    result = load("fail_static").model_copy(update={"permanence": (), "checks": (), "files": ()})
    first = render_pdf(result)
    monkeypatch.setattr("time.time", lambda: 1.0)
    assert render_pdf(result) == first


def test_hostile_text_loads_nothing() -> None:
    text = (
        '"><img src="file:///etc/passwd"><link rel=attachment href="file:///etc/passwd"><style>@import url(a)</style>'
    )
    result = poisoned("fail_static", text).model_copy(update={"permanence": (), "timing": load("fail_static").timing})
    assert render_pdf(result).startswith(b"%PDF")


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="http://localhost/x.png">',
        '<img src="file:///etc/hostname">',
        '<img src="data:image/png;base64,AAAA">',
        "<style>@import url(http://localhost/x.css)</style>",
        '<link rel=stylesheet href="file:///etc/hostname">',
    ],
)
def test_the_fetcher_refuses_everything_loudly(markup: str) -> None:
    with pytest.raises(FatalURLFetchingError):
        weasyprint.HTML(string=markup, url_fetcher=refusing()).write_pdf()


def test_figures_get_values_for_the_pages_properties() -> None:
    css = figure_css(':root { --a: #123; --b: red } .x { fill: var(--a); } .t { font: 10.5px "A", serif; }')
    assert ".x { fill: #123; }" in css
    assert '.t { font-size: 10.5px; font-family: "A", serif; }' in css
