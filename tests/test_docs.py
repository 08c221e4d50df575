"""The documentation: what is generated is up to date, links and anchors lead somewhere, examples come out as shown.

`python docs/generate.py` writes what is generated. `make docs` checks the pages again as mkdocs reads them.
"""

import doctest
import importlib.util
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mansu.config import Config, read_config
from mansu.request import read_forget, read_retain
from verify.contract.catalogue import ENTRIES

ROOT = Path(__file__).parent.parent
TEXTS = ("*.md", "docs/**/*.md", "spec/**/*.md", "benchmarks/*.md", "tests/*/README.md")
PAGES = sorted({path for pattern in TEXTS for path in ROOT.glob(pattern) if "node_modules" not in path.parts})
ELSEWHERE = re.compile(r"^[a-z]+:", re.IGNORECASE)
HOSTS = re.compile(r"https?://([^/\s\"'<>)\]`]+)", re.IGNORECASE)
KNOWN_HOSTS = {"github.com", "in-toto.io", "slsa.dev"}


def tokens(path: Path) -> list[Token]:
    found = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    return [inner for token in found for inner in (token, *(token.children or ()))]


def links(path: Path) -> Iterator[str]:
    for token in tokens(path):
        target = token.attrs.get("href") or token.attrs.get("src")
        if target and not ELSEWHERE.match(str(target)):
            yield str(target)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    parsed = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    titles = [after.children for token, after in pairwise(parsed) if token.type == "heading_open"]
    slugs: list[str] = []
    for children in titles:
        text = "".join(child.content for child in children or ()).strip().lower()
        kept = "".join(c for c in text if c in "-_ " or unicodedata.category(c)[0] in "LNM")
        slug = kept.replace(" ", "-")
        slugs.append(f"{slug}-{slugs.count(slug)}" if slug in slugs else slug)
    return set(slugs)


def broken(path: Path) -> Iterator[str]:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = Path(os.path.normpath(path.parent / name)) if name else path
        page = target / "README.md" if target.is_dir() else target
        if not page.exists() or (anchor and anchor not in anchors(page)):
            yield link


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate: ModuleType) -> dict[Path, str]:
    return generate.pages()


def test_everything_generated_is_up_to_date(generate: ModuleType, pages: dict[Path, str]) -> None:
    assert generate.stale(pages) == [], "run `python docs/generate.py`"


def test_every_document_of_the_results_stands_on_a_page(generate: ModuleType) -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in generate.RESULT_PAGES)
    found = {f"{path.parent.name}/{path.stem}" for path in generate.RESULTS.glob("seed*/*.json")}
    assert found == set(re.findall(r"<!-- results: (\S+) -->", shown))
    assert "<!-- legend -->" in shown
    assert "<!-- in short: seed-12 -->" in shown


def test_a_difference_is_noticed(generate: ModuleType, pages: dict[Path, str]) -> None:
    readme = ROOT / "README.md"
    assert generate.stale({**pages, readme: pages[readme].replace("--manifest", "--manifesto", 1)}) == [readme]
    page = ROOT / "docs" / "checks" / "MV203.md"
    assert generate.stale({path: text for path, text in pages.items() if path != page}) == [page]


def test_every_id_has_a_page_and_the_index_names_it() -> None:
    folder = ROOT / "docs" / "checks"
    assert {path.stem for path in folder.glob("*.md")} == {*ENTRIES, "README"}
    linked = re.findall(r"\]\((M[VE]\d{3})\.md\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert linked == list(ENTRIES)


def test_help_fits_80_columns_and_stands_in_the_readme(generate: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("mansu", "mansu-verify"):
        shown = generate.shown_help(command)
        assert max(map(len, shown.splitlines())) <= 80
        assert f"$ {command} --help\n{shown}" in readme


def test_every_field_of_the_configuration_says_what_it_does() -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert f"| `{name}` | " in page


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_and_anchor_leads_somewhere(path: Path) -> None:
    assert list(broken(path)) == []


def test_a_broken_link_and_a_broken_anchor_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One `code`: two\n\n# Same\n\n# Same\n", encoding="utf-8")
    page = tmp_path / "a.md"
    page.write_text(
        "[1](b.md#one-code-two) [2](b.md#same-1) [3](b.md#same-2) [4](c.md) ![5](d.png)\n", encoding="utf-8"
    )
    assert list(broken(page)) == ["b.md#same-2", "c.md", "d.png"]


def test_pages_name_no_host_but_those_of_formats_and_code() -> None:
    sources = [*PAGES, ROOT / "mkdocs.yml", ROOT / "docs" / "requirements.txt"]
    named = {host for path in sources for host in HOSTS.findall(path.read_text(encoding="utf-8"))}
    assert named <= KNOWN_HOSTS


def test_every_page_is_in_the_site_s_navigation() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]

    def named(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from named(inner)

    listed = list(named(nav))
    assert len(listed) == len(set(listed))
    top = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert top <= set(listed)
    assert all((ROOT / "docs" / name).is_file() or (ROOT / name).is_file() for name in listed)


def test_the_examples_of_the_floor_come_out_as_shown() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", (ROOT / "docs" / "floor.md").read_text(encoding="utf-8"), re.DOTALL)
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "floor.md", "floor.md", 0)
    said: list[str] = []
    done = doctest.DocTestRunner().run(example, out=said.append)
    assert done.attempted > 10
    assert done.failed == 0, "".join(said)


def blocks_of(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("name", ["config.md", "howto-own-model.md"])
def test_every_configuration_shown_is_one(name: str, tmp_path: Path) -> None:
    shown = blocks_of(name, "toml")
    assert shown
    for text in shown:
        (tmp_path / "c.toml").write_text(text, encoding="utf-8")
        assert read_config(tmp_path / "c.toml") != Config()


def test_the_sets_shown_are_sets(tmp_path: Path) -> None:
    forget, retain = blocks_of("howto-own-model.md", "json")
    for name, text in (("forget", forget), ("retain", retain)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    facts, _ = read_forget(tmp_path / "forget")
    assert [fact.wording for fact in facts] == [0, 1, 0]
    kept, prose = read_retain(tmp_path / "retain")
    assert (len(kept), len(prose)) == (1, 1)
    shown = {key for line in (*forget.splitlines(), *retain.splitlines()) for key in json.loads(line)}
    table = (ROOT / "docs" / "howto-own-model.md").read_text(encoding="utf-8")
    assert all(re.search(rf"^\|.*`{key}`.*\|", table, re.MULTILINE) for key in shown)


def test_the_benchmark_of_the_floor_still_says_what_the_page_says() -> None:
    spec = importlib.util.spec_from_file_location("floor", ROOT / "benchmarks" / "floor.py")
    floor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(floor)
    weight = torch.randn(256, 4096, generator=torch.Generator().manual_seed(1))
    page = (ROOT / "docs" / "floor.md").read_text(encoding="utf-8")
    for bins, share, shown in ((0.5, 0.01, "51.3"), (0.5, 1.0, "51.7"), (1.0, 0.01, "2.8"), (1.0, 1.0, "17.5")):
        kept, _ = floor.measured(weight, share, bins, torch.Generator().manual_seed(2))
        assert f"{shown} %" in page
        assert kept == pytest.approx(float(shown) / 100, abs=0.02)
