"""Write what of the documentation comes from the code: `python docs/generate.py`; `--check` only compares.

docs/checks/ holds a page for every id of the catalogue, docs/cli.md the help of every command at 80 columns, and the
README the help of the two commands themselves, between its markers.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tree that this file lies in, whatever is installed

from reports import render_entry  # noqa: E402  (found by the line above)
from verify.contract.catalogue import CHECKS, DEPLOYED, ENTRIES, ERRORS, REPORTS, Entry  # noqa: E402

README = ROOT / "README.md"
CHECKS_FOLDER = ROOT / "docs" / "checks"
MODULES = {"mansu": "mansu.cli", "mansu-audit": "verify.cli.auditing", "mansu-verify": "verify.cli"}
IN_README = ("mansu", "mansu-verify")
SUBCOMMANDS = (
    "keygen",
    "unlearn",
    "patch",
    "patch export",
    "patch apply",
    "patch revert",
    "demo",
    "tradeoff",
    "circuit",
    "calibrate",
    "card",
)
COLUMNS = 80


def shown_help(command: str) -> str:
    """Return what `COMMAND --help` prints at 80 columns."""
    name, *words = command.split()
    call = [sys.executable, "-m", MODULES[name], *words, "--help"]
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)  # noqa: S603  (our own)
    return "\n".join(line.rstrip() for line in run.stdout.splitlines()) + "\n"


def help_block(command: str) -> str:
    """Return a command and its help as a fenced block."""
    return f"```console\n$ {command} --help\n{shown_help(command)}```\n"


def readme(text: str) -> str:
    """Return the README with the help between its markers renewed."""
    for command in IN_README:
        start, end = f"<!-- help: {command} -->\n", f"<!-- end of help: {command} -->"
        pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
        block = f"{start}{help_block(command)}{end}"
        text, count = pattern.subn(lambda _, block=block: block, text)
        if count != 1:
            raise SystemExit(f"README.md: the markers of {command} are missing")
    return text


def help_page() -> str:
    """Return docs/cli.md."""
    commands = ("mansu-verify", "mansu-audit", "mansu", *(f"mansu {name}" for name in SUBCOMMANDS))
    head = "# Command lines\n\nWritten by `python docs/generate.py`; CI compares it with the commands.\n"
    return head + "".join(f"\n## {command}\n\n{help_block(command)}" for command in commands)


def index_page() -> str:
    """Return docs/checks/README.md."""
    source = "Written by `python docs/generate.py` from the docstrings in `verify/contract/catalogue/`."
    head = f"# Checks and errors\n\n{source} `mansu-verify --explain MV203` prints a page.\n"
    parts = (
        ("Checks, in the order of a result", CHECKS),
        ("Checks of a deployed file", DEPLOYED),
        ("Checks of a signed report", REPORTS),
        ("Errors", ERRORS),
    )
    return head + "".join(_listed(title, entries) for title, entries in parts)


def _listed(title: str, entries: tuple[Entry, ...]) -> str:
    rows = [f"| [{entry.id}]({entry.id}.md) | {entry.group} | {entry.title} |" for entry in entries]
    return "\n".join([f"\n## {title}\n", "| id | group | title |", "| --- | --- | --- |", *rows]) + "\n"


def pages() -> dict[Path, str]:
    """Return every generated file with its content."""
    entries = {CHECKS_FOLDER / f"{entry.id}.md": render_entry(entry) for entry in ENTRIES.values()}
    return {
        README: readme(README.read_text(encoding="utf-8")),
        ROOT / "docs" / "cli.md": help_page(),
        CHECKS_FOLDER / "README.md": index_page(),
        **entries,
    }


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Return the files that are missing, differ, or should not be there."""
    differing = [p for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    return differing + [path for path in CHECKS_FOLDER.glob("*") if path not in wanted]


def main() -> None:
    """Write or, with `--check`, compare."""
    wanted = pages()
    old = stale(wanted)
    if "--check" in sys.argv[1:]:
        if old:
            names = ", ".join(str(path.relative_to(ROOT)) for path in old)
            raise SystemExit(f"not up to date: {names}; run `python docs/generate.py`")
        return
    CHECKS_FOLDER.mkdir(exist_ok=True)
    for path in old:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
