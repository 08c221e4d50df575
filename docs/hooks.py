"""What mkdocs does not do by itself (mkdocs.yml, `hooks`): used by `make docs` alone, and it warns, which fails there.

- Pages link to files of the repository outside docs/ (spec/, benchmarks/, action.yml). What is linked, directly or from
  another such page, becomes part of the site, and links are rewritten to where it lies there.
- A page must come out as GitHub shows it: as many tables, rows, list items, code blocks, headings and pictures as
  CommonMark sees. Python-Markdown differs, for one in lists that no blank line precedes.
- Nothing on a page may be loaded from elsewhere.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs/"
LINK = re.compile(r"(\]\()([^()\s#:]+)((?:#[^()\s]*)?\))")
"""`](target#anchor)` where the target is no address of another protocol."""
FENCE = re.compile(r"^ {0,12}(```|~~~)")
COUNTED = ("table", "tr", "li", "pre", "img", "h1", "h2", "h3", "h4")
ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//"
)

log = logging.getLogger("mkdocs.hooks.mansu")


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside docs/, and what those pages link to."""
    waiting = sorted(ROOT.glob("docs/**/*.md"))
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target in seen:
                continue
            seen.add(target)
            if not _repository_path(target).startswith(DOCS):
                uri = site_path(_repository_path(target))
                files.append(File.generated(config, uri, abs_src_path=str(target), inclusion=InclusionLevel.NOT_IN_NAV))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001  (mkdocs names them)
    """Rewrite links between docs/ and the rest of the repository."""
    source = _source(page)
    return "".join(
        line if fenced else LINK.sub(lambda found: found[1] + _rewritten(source, found[2]) + found[3], line)
        for line, fenced in _lines(markdown)
    )


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Warn where the page has other parts than CommonMark sees in it."""
    expected = MarkdownIt("commonmark").enable("table").render(_source(page).read_text(encoding="utf-8"))
    for tag in COUNTED:
        wanted, found = (len(re.findall(rf"<{tag}[\s>]", text)) for text in (expected, html))
        if wanted != found:
            log.warning("%s: <%s> %d times, in CommonMark %d", page.file.src_uri, tag, found, wanted)
    return html


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001
    """Warn where a page loads something from elsewhere."""
    for found in ELSEWHERE.finditer(output):
        log.warning("%s loads from elsewhere: %s", page.file.src_uri, found[0])
    return output


def site_path(path: str) -> str:
    """Return where a file of the repository lies in the site; hidden files lose their dot."""
    return path.removeprefix(DOCS) if path.startswith(DOCS) else path.removeprefix(".")


def _source(page: Any) -> Path:
    return Path(page.file.abs_src_path).resolve()


def _repository_path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _lines(markdown: str) -> list[tuple[str, bool]]:
    found, fenced = [], False
    for line in markdown.splitlines(keepends=True):
        mark = bool(FENCE.match(line))
        found.append((line, fenced or mark))
        fenced ^= mark
    return found


def _target(source: Path, link: str) -> Path | None:
    """Return the file that a relative link of a page means; of a folder, its README.md."""
    path = Path(os.path.normpath(source.parent / link))
    path = path / "README.md" if path.is_dir() else path
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _targets(page: Path) -> set[Path]:
    lines = [line for line, fenced in _lines(page.read_text(encoding="utf-8")) if not fenced]
    found = {_target(page, link[2]) for line in lines for link in LINK.finditer(line)}
    return {target for target in found if target is not None}


def _rewritten(source: Path, link: str) -> str:
    target = _target(source, link)
    if target is None:
        return link
    here = Path(site_path(_repository_path(source))).parent
    return Path(os.path.relpath(site_path(_repository_path(target)), here)).as_posix()
