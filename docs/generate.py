"""Write what of the documentation comes from the code: `python docs/generate.py`; `--check` only compares.

docs/checks/ holds a page for every id of the catalogue, docs/cli.md the help of every command at 80 columns,
docs/config.md what `mansu unlearn --config` may set, the README the help of the two commands, between its markers, and
docs/results.md and docs/results-earlier.md the tables of docs/results/, likewise.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tree that this file lies in, whatever is installed

from mansu.bench.study.judging import Criteria  # noqa: E402  (found by the line above)
from mansu.bench.study.markdown import markdown  # noqa: E402
from mansu.bench.study.summary import Document  # noqa: E402
from mansu.bench.study.tables import AXES, COSTS, cells, legend, pair  # noqa: E402
from mansu.config import Config  # noqa: E402
from reports import render_entry  # noqa: E402
from verify.contract.catalogue import CHECKS, DEPLOYED, ENTRIES, ERRORS, REPORTS, Entry  # noqa: E402

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
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
    "bench",
    "tradeoff",
    "bound",
    "permanence",
    "circuit",
    "calibrate",
    "card",
)
COLUMNS = 80
NOT_IN_SHORT = ("held-out facts", "late CAD", "retain CAD")
IN_SHORT = (*(column for column in AXES if column[0] not in NOT_IN_SHORT), COSTS[0])
RESULT_PAGES = tuple(ROOT / "docs" / name for name in ("results.md", "results-earlier.md"))


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


def renewed(text: str, what: str, block: str) -> str:
    """Return a page with what lies between the markers of `what` renewed."""
    start, end = f"<!-- {what} -->\n", f"<!-- end of {what} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    text, count = pattern.subn(lambda _: f"{start}{block}{end}", text)
    if count != 1:
        raise SystemExit(f"the markers of {what} are missing")
    return text


def readme(text: str) -> str:
    """Return the README with the help between its markers renewed."""
    for command in IN_README:
        text = renewed(text, f"help: {command}", help_block(command))
    return text


def results_page(text: str) -> str:
    """Return a page of results with the tables of docs/results/ that it names, as `mansu bench` prints them."""
    for folder, suite in re.findall(r"<!-- results: ([\w-]+)/([\w-]+) -->", text):
        block = markdown(_document(folder, suite), notes=False)
        text = renewed(text, f"results: {folder}/{suite}", f"\n{block}\n")
    for folder in re.findall(r"<!-- in short: ([\w-]+) -->", text):
        text = renewed(text, f"in short: {folder}", f"\n{in_short(folder)}\n")
    return renewed(text, "legend", f"\n{legend(Criteria())}\n") if "<!-- legend -->" in text else text


def in_short(folder: str) -> str:
    """Return mansu's row of every suite in a folder of results, the base's accuracy and what is asked for beside it."""
    head = ("suite", "base", "asked for", *(name for name, _ in IN_SHORT))
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path in sorted((RESULTS / folder).glob("*.json")):
        found = _document(folder, path.stem)
        (mansu,) = (line for line in found.lines if line.method == "mansu")
        chance = found.base["chance"]
        assert chance is not None
        asked = f"{chance.value + found.criteria.above_chance:.3f}"
        row = (found.suite, pair("forget", "forget_nf4")(found.base), asked, *cells(mansu, IN_SHORT))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _document(folder: str, suite: str) -> Document:
    return Document.model_validate_json((RESULTS / folder / f"{suite}.json").read_bytes())


def help_page() -> str:
    """Return docs/cli.md."""
    commands = ("mansu-verify", "mansu-audit", "mansu", *(f"mansu {name}" for name in SUBCOMMANDS))
    head = "# Command lines\n\nWritten by `python docs/generate.py`; CI compares it with the commands.\n"
    return head + "".join(f"\n## {command}\n\n{help_block(command)}" for command in commands)


def config_page() -> str:
    """Return docs/config.md: every field of the engine's configuration, with its default, bounds and meaning."""
    rows = [
        f"| `{name}` | {_shown(name, field.get_default())} | {_bounds(field)} | {field.description} |"
        for name, field in Config.model_fields.items()
    ]
    profiles = [
        f"| {profile.block_size} | {str(profile.double_quant).lower()} | `{profile.cast}` |"
        for profile in Config().profiles
    ]
    return "\n".join(
        [
            "# Configuration",
            "",
            "What `mansu unlearn --config c.toml` may set; an unknown name is refused (ME205). Written by",
            "`python docs/generate.py` from `mansu/config.py`. The signed manifest holds every value.",
            "",
            "```toml",
            "seed = 1",
            "mask_share = 0.003",
            "snaps = [0.6, 0.6, 0.6, 0.6, 1.0]",
            "```",
            "",
            "| name | default | allowed | what it does |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "The default profiles, to be survived at once; what is skipped is what `transformers` skips by itself:",
            "",
            "| `block_size` | `double_quant` | `cast` |",
            "| --- | --- | --- |",
            *profiles,
            "",
        ]
    )


def _shown(name: str, default: object) -> str:
    if name == "profiles":
        return "the table below"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


def _bounds(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    signs = {"gt": "> ", "ge": "≥ ", "lt": "< ", "le": "≤ "}
    found = [(signs[key], value) for item in field.metadata for key, value in _vars_of(item) if key in signs]
    return ", ".join(f"{sign}{value}" for sign, value in found) or ("one at least" if field.metadata else "")


def _vars_of(constraint: object) -> list[tuple[str, object]]:
    return [(name, getattr(constraint, name)) for name in getattr(constraint, "__slots__", ())]


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
        ROOT / "docs" / "config.md": config_page(),
        **{page: results_page(page.read_text(encoding="utf-8")) for page in RESULT_PAGES},
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
