"""The same page as the HTML report, as PDF/UA: tagged for screen readers, nothing fetched, result.json attached.

The same result gives the same bytes on the same machine: fonts are the machine's own.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from weasyprint import HTML, Attachment
from weasyprint.urls import URLFetcher

from reports.render import render_html, render_json
from verify.contract.result import Result

ATTACHED = "result.json"


def render_pdf(result: Result) -> bytes:
    """Return the report as one PDF file (PDF/UA-1), with the result as an attached JSON file.

    Raises weasyprint's FatalURLFetchingError if the page asked for anything outside itself; it never does.
    """
    page, data = render_html(result), render_json(result).encode()
    started = datetime.fromisoformat(result.timing.started)
    document = HTML(string=page, url_fetcher=refusing()).render()
    document.metadata.created = document.metadata.modified = result.timing.started
    document.metadata.attachments = [
        Attachment(
            string=data,
            name=ATTACHED,
            description="The result that this report renders",
            relationship="Source",
            created=started,
            modified=started,
            url_fetcher=refusing(),
        )
    ]
    with _dated(started):
        return bytes(document.write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=hashlib.sha256(data).digest()[:16]))


def refusing() -> URLFetcher:
    """Return a fetcher that admits no protocol, and makes any attempt an error that ends the rendering."""
    return URLFetcher(allowed_protocols=(), allow_redirects=False, fail_on_errors=True)


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
