"""What is generated of the documentation is up to date: pages of the ids, help texts. `python docs/generate.py`."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from verify.contract.catalogue import ENTRIES

ROOT = Path(__file__).parent.parent


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
