"""The certificate in a real browser: html-validate, axe-core, two screen sizes, and print.

Skipped, with the reason, where node, the packages of tests/browser or Chromium are absent. To see the pages:
`SCREENSHOTS=DIR python -m pytest tests/test_reports_browser.py` leaves a picture of each, at each size, there.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_reports_render import NAMES, load, poisoned

from reports import render_html

BROWSER = Path(__file__).parent / "browser"
PRINTED = 267 / 25.4 * 96  # CSS pixels between the margins of the first A4 page
TOO_LONG = 300  # seconds


@pytest.fixture(scope="module")
def packages() -> Path:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    found = BROWSER / "node_modules"
    if not all((found / name).is_dir() for name in ("axe-core", "html-validate", "playwright-core")):
        pytest.skip("npm packages are not installed: npm ci --prefix tests/browser")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The three fixed results, and one with hostile strings throughout, as files."""
    folder = tmp_path_factory.mktemp("pages")
    results = {**{name: load(name) for name in NAMES}, "hostile": poisoned("pass_full")}
    for name, result in results.items():
        (folder / f"{name}.html").write_text(render_html(result), encoding="utf-8")
    return sorted(folder.iterdir())


def test_html_validate_finds_nothing(packages: Path, pages: list[Path]) -> None:
    command = ["node", str(packages / "html-validate" / "bin" / "html-validate.mjs")]
    command += ["--config", str(BROWSER / ".htmlvalidate.json"), *map(str, pages)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TOO_LONG, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def visits(packages: Path, pages: list[Path]) -> list[dict[str, Any]]:
    """What Chromium met on each page; `packages` are what the script imports."""
    assert packages.is_dir()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    command = ["node", str(BROWSER / "check.mjs"), browser, *map(str, pages)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TOO_LONG, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_axe_finds_no_barrier(visits: list[dict[str, Any]]) -> None:
    assert {visit["page"]: visit["violations"] for visit in visits} == {visit["page"]: [] for visit in visits}
    assert len(visits) == 4


def test_nothing_is_fetched_or_refused(visits: list[dict[str, Any]]) -> None:
    assert [visit["requests"] for visit in visits] == [[]] * 4
    assert [visit["console"] for visit in visits] == [[]] * 4  # a broken security policy would be logged


def test_no_page_scrolls_sideways(visits: list[dict[str, Any]]) -> None:
    assert [visit["overflow"] for visit in visits] == [{"phone": 0, "laptop": 0}] * 4


def test_the_first_page_fits_a_sheet_of_its_own(visits: list[dict[str, Any]]) -> None:
    for visit in visits:
        if visit["page"] != "hostile.html":  # its strings are as long as they please
            assert visit["printed"]["breakAfter"] == "page"
            assert visit["printed"]["bottom"] < PRINTED
            assert visit["printed"]["pages"] > 4
