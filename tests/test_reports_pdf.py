"""PDF: nothing fetched, the result attached, the same bytes again; and PDF/UA-1, as far as a program can tell.

The conditions are those of the Matterhorn Protocol that need no human and can arise here; docs/reports.md lists them.
No full validator runs here.
"""

import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from pdf_reader import Name, Pdf, Ref
from test_reports_render import load, poisoned

weasyprint = pytest.importorskip("weasyprint", exc_type=OSError, reason="Pango is not installed")

from weasyprint.urls import FatalURLFetchingError, URLFetcher  # noqa: E402  (only where the import above worked)

from reports.pdf import figure_css, refusing, render_pdf  # noqa: E402
from reports.render import render_json  # noqa: E402


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
    inside = [stream.data for stream in Pdf(pdf).streams()]
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


# --- PDF/UA-1 --------------------------------------------------------------------------------------------------------

PAINTS = {"Tj", "TJ", "'", '"', "S", "s", "f", "F", "f*", "B", "B*", "b", "b*", "Do", "sh"}
STANDARD = {
    *(
        "Document",
        "Part",
        "Art",
        "Sect",
        "Div",
        "BlockQuote",
        "Caption",
        "TOC",
        "TOCI",
        "Index",
        "NonStruct",
        "Private",
    ),
    *("P", "H1", "H2", "H3", "H4", "H5", "H6", "L", "LI", "Lbl", "LBody", "Table", "TR", "TH", "TD"),
    *("THead", "TBody", "TFoot", "Span", "Quote", "Note", "Reference", "Code", "Link", "Annot", "Figure", "Formula"),
}
CONTAINED = {
    "L": {"L", "LI", "Caption"},
    "LI": {"Lbl", "LBody"},
    "Table": {"TR", "THead", "TBody", "TFoot", "Caption"},
    "THead": {"TR"},
    "TBody": {"TR"},
    "TR": {"TH", "TD"},
}
"""What may stand directly in lists and tables (ISO 32000-1, tables 336 and 337)."""


class Tagged(Pdf):
    """A file with its structure tree."""

    def elements(self) -> list[dict[str, Any]]:
        """Return all structure elements in reading order."""

        def below(value: Any) -> Iterator[dict[str, Any]]:
            entry = self(value)
            if isinstance(entry, dict) and entry.get("Type") == "StructElem":
                yield entry
                for kid in self.kids(entry):
                    yield from below(kid)

        root = self(self.catalog["StructTreeRoot"])
        return [entry for kid in self.kids(root) for entry in below(kid)]

    def kids(self, entry: dict[str, Any]) -> list[Any]:
        """Return what stands directly in an element: references, and numbers of marked content."""
        kids = self(entry.get("K", []))
        return kids if isinstance(kids, list) else [kids]

    def inside(self, entry: dict[str, Any]) -> list[str]:
        """Return the types of the elements that stand directly in an element."""
        found = [self(kid) for kid in self.kids(entry) if isinstance(kid, Ref)]
        return [kid["S"] for kid in found if kid.get("Type") == "StructElem"]

    def annotations(self) -> list[dict[str, Any]]:
        """Return all annotations."""
        return [self(entry) for page in self.pages() for entry in self(page.get("Annots", []))]


def words(value: bytes) -> str:
    return value[2:].decode("utf-16-be") if value.startswith(b"\xfe\xff") else value.decode("latin-1")


@pytest.fixture(scope="module")
def tagged() -> Tagged:
    return Tagged(render_pdf(load("pass_full"), b"{}"))


def test_the_file_says_that_it_is_tagged_titled_and_in_what_language(tagged: Tagged) -> None:
    catalog = tagged.catalog
    assert catalog["MarkInfo"] == {"Marked": True}
    assert catalog["ViewerPreferences"]["DisplayDocTitle"] is True
    assert catalog["Lang"] == b"en"
    metadata = tagged(catalog["Metadata"])
    assert (metadata.entries["Type"], metadata.entries["Subtype"]) == ("Metadata", "XML")
    xmp = metadata.data.decode()
    assert 'pdfuaid:part="1"' in xmp
    assert '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">PASS: unlearning certification report</rdf:li>' in xmp
    assert "RoleMap" not in tagged(catalog["StructTreeRoot"])  # nothing is mapped: every type is a standard one
    assert {entry["S"] for entry in tagged.elements()} <= STANDARD
    assert catalog.keys().isdisjoint({"OCProperties", "AcroForm", "OpenAction", "AA"})
    assert "Encrypt" not in tagged.trailer
    assert not any(isinstance(entry, dict) and "JS" in entry for entry in tagged.objects.values())


def test_everything_painted_is_real_content_in_the_tree_or_an_artifact(tagged: Tagged) -> None:
    """Tagged content and artifacts are apart, nothing is outside both, and each number is in the tree, once."""
    owners = tagged(tagged(tagged.catalog["StructTreeRoot"])["ParentTree"])["Nums"]
    owned = {key: tagged(value) for key, value in zip(owners[::2], owners[1::2], strict=True)}
    artifacts = 0
    for page in tagged.pages():
        open_: list[Any] = []
        seen: list[int] = []
        for operator, operands in tagged.content(page):
            if operator in ("BDC", "BMC"):
                properties = operands[1] if operator == "BDC" else {}
                if isinstance(properties, Name):
                    properties = tagged(tagged(page["Resources"])["Properties"])[properties]
                real = isinstance(properties, dict) and "MCID" in properties
                assert not any(open_), "tagged content lies within tagged content"
                assert real or operands[0] == "Artifact"
                if real:
                    assert "Artifact" not in open_
                    seen.append(properties["MCID"])
                artifacts += not real
                open_.append(properties["MCID"] + 1 if real else 0)
            elif operator == "EMC":
                open_.pop()
            elif operator in PAINTS:
                assert open_, f"{operator} outside of marked content"
        assert not open_
        assert sorted(seen) == list(range(len(seen)))
        mine = [tagged(owner) for owner in owned[page["StructParents"]]]
        assert len(mine) == len(seen)
        assert all(at in tagged.kids(owner) for at, owner in enumerate(mine))
    assert artifacts


def test_figures_have_words_and_headings_skip_no_level(tagged: Tagged) -> None:
    figures = [entry for entry in tagged.elements() if entry["S"] == "Figure"]
    spoken = [words(entry["Alt"]) for entry in figures]
    assert spoken[0] == "Symbol of the verdict: PASS"
    assert any("At this edit's norm" in text for text in spoken)  # the description, not the title alone
    assert all(len(text) > 60 for text in spoken[1:])
    assert all(entry["A"]["BBox"] for entry in figures)
    levels = [int(entry["S"][1]) for entry in tagged.elements() if entry["S"] in ("H1", "H2", "H3", "H4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(levels) > 20


def test_lists_and_tables_hold_what_they_may_and_cells_know_their_headers(tagged: Tagged) -> None:
    elements = tagged.elements()
    for entry in elements:
        if entry["S"] in CONTAINED:
            assert set(tagged.inside(entry)) <= CONTAINED[entry["S"]], entry["S"]
    parents = {kid.number: entry["S"] for entry in elements for kid in tagged.kids(entry) if isinstance(kid, Ref)}
    numbers = {id(entry): number for number, entry in tagged.objects.items()}
    for kind, allowed in (("LI", {"L"}), ("TR", {"Table", "THead", "TBody"}), ("TD", {"TR"}), ("TH", {"TR"})):
        mine = [parents[numbers[id(entry)]] for entry in elements if entry["S"] == kind]
        assert mine
        assert set(mine) <= allowed, kind
    ids = [bytes(entry["ID"]) for entry in elements if entry["S"] == "TH"]
    assert len(set(ids)) == len(ids)
    cells = [entry for entry in elements if entry["S"] == "TD"]
    assert all(entry["A"]["Headers"] and set(entry["A"]["Headers"]) <= set(ids) for entry in cells)
    pairs = [tagged.inside(entry) for entry in elements if entry["S"] == "LI"]
    assert ["Lbl", "LBody"] in pairs


def test_links_are_in_the_tree_and_say_where_they_lead(tagged: Tagged) -> None:
    annotations = tagged.annotations()
    assert annotations
    assert all(page["Tabs"] == "S" for page in tagged.pages() if "Annots" in page)
    assert {entry["Subtype"] for entry in annotations} == {"Link"}
    owners = tagged(tagged(tagged.catalog["StructTreeRoot"])["ParentTree"])["Nums"]
    owned = dict(zip(owners[::2], owners[1::2], strict=True))
    for entry in annotations:
        assert tagged(owned[entry["StructParent"]])["S"] == "Link"
        assert words(entry["Contents"]).startswith("To: ")
    assert "To: Sparsity and permanence" in {words(entry["Contents"]) for entry in annotations}
    assert "To: the verdict" in {words(entry["Contents"]) for entry in annotations}


def test_fonts_are_embedded_and_map_to_unicode(tagged: Tagged) -> None:
    entries = [entry for entry in tagged.objects.values() if isinstance(entry, dict)]
    fonts = [entry for entry in entries if entry.get("Type") == "Font" and entry["Subtype"] == "Type0"]
    assert fonts
    for font in fonts:
        assert "ToUnicode" in font
        assert font["Encoding"] == "Identity-H"
        (descendant,) = (tagged(kid) for kid in tagged(font["DescendantFonts"]))
        assert tagged(descendant["FontDescriptor"]).keys() & {"FontFile2", "FontFile3"}
        if descendant["Subtype"] == "CIDFontType2":
            assert descendant["CIDToGIDMap"]
    assert {entry["Subtype"] for entry in entries if entry.get("Type") == "Font"} <= {
        "Type0",
        "CIDFontType2",
        "CIDFontType0",
    }


def test_attached_files_have_names_and_a_relationship(tagged: Tagged) -> None:
    """The relationship is of PDF 2.0, for whoever reads it."""
    files = {words(entry["UF"]): entry for entry in map(tagged, tagged.catalog["AF"])}
    assert {name: entry["AFRelationship"] for name, entry in files.items()} == {
        "result.json": "Source",
        "result.intoto.json": "Supplement",
    }
    assert all(entry["F"] == entry["UF"] and entry["Desc"] for entry in files.values())
    inside = tagged(files["result.json"]["EF"]["F"])
    assert inside.data == render_json(load("pass_full")).encode()
