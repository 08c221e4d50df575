"""The result as terminal text: verdict first, nothing wider than asked, nothing a terminal or a CI log would obey."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from reports import policy_words, wording
from reports.plain import neutral
from verify.contract.catalogue import Entry
from verify.contract.result import AxisRow, CheckResult, Erasure, Permanence, Result

Detail = Literal["quiet", "normal", "verbose"]
"""How much to say: the verdict's line alone; a line for every check; every check in full."""

_MARGIN = "  "
_COLOURS = {"PASS": "green", "✓": "green", "FAIL": "red", "✗": "red", "UNDECIDED": "yellow", "?": "yellow"}
_COLOURED = re.compile(r"(PASS|FAIL|UNDECIDED)(?= \()|[✓✗?] MV\d{3}")


def render_text(result: Result, *, width: int = 80, detail: Detail = "normal") -> str:
    """Return the result as lines of at most `width` columns (40 or more) with a final newline.

    Only a single word of the command to repeat may be longer: a broken command would be worse than a long line.
    """
    level = f"({wording.LEVEL[result.level]}; exit code {result.exit_code})"
    if detail == "quiet":
        return f"{result.verdict} {level}\n"
    lines = [*wrap(level, width, first=f"{result.verdict} "), "", *wrap(result.headline, width)]
    lines += _facts(
        width,
        ("Rests on", result.rests_on),
        ("Signature", wording.signature(result)),
        ("Base model", wording.base_digest(result)),
        ("Policy", policy_words.policy_origin(result)),
        ("Pre-registered", policy_words.PRE_REGISTRATION[result.pre_registration]),
        ("Probes", wording.probes(result)),
    )
    sections = (
        ("Four axes, with 95 % intervals", _axes(result, width)),
        ("Checks", _checks(result, width, detail)),
        ("Permanence under quantization", _permanence(result.permanence, width)),
        ("Structural erasure", _erasure(result, width)),
        ("What this does not prove", _bullets((*result.limitations, *result.notes), width)),
        *(_rest(result, width) if detail == "verbose" else ()),
        ("Repeat it", _command(result.repeat, width)),
    )
    for title, body in sections:
        lines += ["", title, "-" * len(title), *body]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_entry_text(entry: Entry, *, width: int = 80) -> str:
    """Return what an id means, why it matters and how to fix it, as lines of at most `width` columns."""
    lines = wrap(f"{entry.id}: {entry.title}", width)
    for heading, text in (
        ("What it means", entry.meaning),
        ("Why it matters", entry.why),
        ("How to fix it", entry.fix),
    ):
        lines += ["", heading]
        for paragraph in text.split("\n\n"):
            lines += wrap(paragraph, width, first=_MARGIN, rest=_MARGIN)
    return "\n".join(lines) + "\n"


def coloured(text: str) -> str:
    """Return rendered text for a terminal: verdict and checks in colour, which never is the only sign of either."""
    return "".join(_coloured(line) for line in text.splitlines(keepends=True))


def _coloured(line: str) -> str:
    """Colour what a line begins with; our own words stand there, artefacts' text is always indented or follows them."""
    match = _COLOURED.match(line)
    if match is None:
        return line
    style = Style(color=_COLOURS[match[0].split()[0]], bold=True)
    return style.render(match[0], color_system=ColorSystem.STANDARD) + line[match.end() :]


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Return `text`, made neutral, in lines of at most `width` terminal columns; words too long for one are cut.

    `first` stands before the first line and `rest` before the others; both are our own words and stay as they are.
    """
    lines: list[str] = []
    line, empty = first, True
    for word in neutral(text).split():
        for piece in chop_cells(word, max(2, width - max(cell_len(first), cell_len(rest)))):
            gap = "" if empty else " "
            if not empty and cell_len(line) + len(gap) + cell_len(piece) > width:
                lines.append(line)
                line, gap = rest, ""
            line, empty = f"{line}{gap}{piece}", False
    return [*lines, line]


def _facts(width: int, *pairs: tuple[str, str]) -> list[str]:
    """Return labelled lines, the labels in a column of their own."""
    column = max(len(label) for label, _ in pairs) + 2
    return [line for label, text in pairs for line in wrap(text, width, first=f"{label:<{column}}", rest=" " * column)]


def _bullets(items: Iterable[str], width: int) -> list[str]:
    return [line for item in items for line in wrap(item, width, first="- ", rest=_MARGIN)]


def _axes(result: Result, width: int) -> Iterator[str]:
    if not result.axes and result.erasure is None:
        yield wording.absent(result)
        return
    if result.axes:
        yield _columns(width, "", "base", "base NF4", "edited", "edited NF4", "")
    for axis, rows in wording.by_axis(result):
        yield axis
        for row in rows:
            yield from _axis_row(row, width)
    yield wording.AXIS["erasure"]
    checks = [check for check in result.checks if check.group == "erasure"]
    for check in checks:
        yield from wrap(f"{check.title}: {check.found}", width, first=_MARGIN, rest=_MARGIN * 2)
        yield from wrap(
            f"{wording.STATUS[check.status]}; rule: {check.expected}", width, first=_MARGIN * 2, rest=_MARGIN * 3
        )
    if not checks:
        yield _MARGIN + wording.UNAVAILABLE


def _axis_row(row: AxisRow, width: int) -> Iterator[str]:
    """Yield a row's name and status, its four values over their intervals, its differences and its rule."""
    models = (row.base, row.base_nf4, row.edited, row.edited_nf4)
    counts = " / ".join(dict.fromkeys(wording.count(model.n) for model in models))
    yield from wrap(f"{row.row}: {wording.STATUS[row.status]}", width, first=_MARGIN, rest=_MARGIN * 2)
    yield _columns(width, f"    {row.unit}", *(wording.level(row, model.value) for model in models), "")
    low_high = (f"{wording.level(row, model.low)}-{wording.level(row, model.high)}" for model in models)
    yield _columns(width, f"    n = {counts}", *low_high, "")
    for label, estimate in (("difference", row.difference), ("difference NF4", row.difference_nf4)):
        value, low, high = (wording.change(row, x) for x in (estimate.value, estimate.low, estimate.high))
        yield from wrap(f"{label} {value}, interval {low} to {high}", width, first=_MARGIN * 2, rest=_MARGIN * 3)
    yield from wrap(f"rule: {row.rule}", width, first=_MARGIN * 2, rest=_MARGIN * 3)


def _columns(width: int, name: str, *cells: str) -> str:
    """Return a name and its cells, the cells in equal columns, cut to `width`."""
    column = (width - 22) // 4
    return (f"{name:<22}" + "".join(f"{cell:<{column}}" for cell in cells))[:width].rstrip()


def _checks(result: Result, width: int, detail: Detail) -> Iterator[str]:
    """Yield a line for every check, and what is open in full; in full detail, everything."""
    yield wording.tally(result)
    still_open = wording.open_checks(result)
    if detail == "verbose":
        for check in result.checks:
            yield from _in_full(check, width)
    else:
        for check in still_open:
            yield from _in_full(check, width)
        for check in result.checks:
            if check not in still_open:
                yield _in_one_line(check, width)
    if still_open:
        yield from wrap(f"What a check means: mansu-verify --explain {still_open[0].id}", width)


def _in_one_line(check: CheckResult, width: int) -> str:
    """Return a check as one line: what was expected, what was found; both cut to fit, the shorter one less."""
    line = f"{wording.STATUS_MARK[check.status]} {neutral(check.id)} "
    if not check.expected:
        return _cut(f"{line}{wording.STATUS[check.status]}: {neutral(check.found)}", width)
    expected, found = (neutral(" ".join(text.split())) for text in (check.expected, check.found))
    room = width - cell_len(line) - len("expected: ; found: ")
    for_found = max(room // 2, room - cell_len(expected))
    found = _cut(found, for_found)
    return f"{line}expected: {_cut(expected, room - cell_len(found))}; found: {found}"


def _cut(text: str, width: int) -> str:
    """Return text of at most `width` terminal columns, an ellipsis in place of what is too much."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _in_full(check: CheckResult, width: int) -> Iterator[str]:
    mark = wording.STATUS_MARK[check.status]
    title = f"{check.id} {wording.STATUS[check.status]}: {check.title}"
    yield from wrap(title, width, first=f"{mark} ", rest=_MARGIN)
    for label, text in (("expected", check.expected), ("found", check.found), ("next", check.remedy)):
        if text:
            yield from wrap(text, width, first=f"  {label:<10}", rest=" " * 12)


def _permanence(profiles: Sequence[Permanence], width: int) -> Iterator[str]:
    """Yield each profile with what misses a condition; where nothing does, one line says so."""
    if not profiles:
        yield wording.UNAVAILABLE
        return
    first = profiles[0]
    masked, parameters = wording.count(first.masked), wording.count(first.parameters)
    yield from wrap(f"{masked} of {parameters} parameters changed ({wording.percent(first.changed_share)})", width)
    for profile in profiles:
        yield from wrap(profile.profile, width)
        median = f"median update {wording.decimal(profile.median_update_in_bins, 2)} bin widths"
        outside = f"codes changed outside the mask: {wording.count(profile.collateral_codes)}"
        missed = [row for row in profile.rows if row.violated]
        if not missed:
            yield from wrap(f"all values meet all conditions; {outside}; {median}", width, first=_MARGIN, rest=_MARGIN)
            continue
        for row in profile.rows:
            yield f"  {row.id:<10}{wording.of(row.satisfied, row.violated)}"
            if row.first_violation:
                yield from wrap(f"first: {row.first_violation}", width, first=" " * 4, rest=" " * 6)
        yield from wrap(f"{outside}; {median}", width, first=_MARGIN, rest=_MARGIN)
    cited = ", ".join(f"{statement.id} {statement.name}" for statement in wording.theorems())
    yield from wrap(f"{wording.THEOREMS} {cited}.", width)


def _erasure(result: Result, width: int) -> Iterator[str]:
    erasure: Erasure | None = result.erasure
    if erasure is None:
        yield wording.absent(result)
        return
    for row in erasure.rows:
        cad, rho = row.cad, row.rho
        yield from wrap(wording.cad_label(row), width, first=_MARGIN, rest=_MARGIN * 2)
        yield from wrap(
            f"CAD {wording.decimal(cad.value)} [{wording.decimal(cad.low)}, {wording.decimal(cad.high)}], "
            f"rho {wording.decimal(rho.value)} [{wording.decimal(rho.low)}, {wording.decimal(rho.high)}], n {cad.n}",
            width,
            first=_MARGIN * 2,
            rest=_MARGIN * 3,
        )
    if erasure.rule:
        yield from wrap(erasure.rule, width)


def _rest(result: Result, width: int) -> Iterator[tuple[str, list[str]]]:
    """Yield what only the verbose text shows: the files, the producer's claims, and the policy."""
    digests = [line for file in result.files for line in wrap(f"{file.sha256} {file.name}", width, rest=_MARGIN)]
    yield "Files, by SHA-256", digests or [wording.UNAVAILABLE]
    if result.provenance is not None:
        claims = result.provenance
        circuit = f"{wording.count(claims.circuit_edges)} of {wording.count(claims.circuit_edges_total)} connections"
        pairs = (
            ("engine", claims.engine),
            ("created", claims.created),
            ("method", claims.method),
            ("circuit", f"{circuit}, faithfulness {wording.decimal(claims.circuit_faithfulness)}"),
            *sorted(claims.settings.items()),
        )
        yield (
            "Claims of the producer",
            [line for name, value in pairs for line in wrap(f"{name}: {value}", width, rest=_MARGIN)],
        )
    thresholds = policy_words.thresholds(result.policy)
    yield (
        f"Policy {result.policy_sha256}",
        [line for name, value, _ in thresholds for line in wrap(f"{name}: {value}", width, rest=_MARGIN)],
    )


def _command(command: str, width: int) -> list[str]:
    """Return the command over several lines, each but the last ended by a backslash, cut only between its words."""
    try:
        words = [shlex.quote(word) for word in shlex.split(neutral(command))]
    except ValueError:  # an open quote: leave the words as they came
        return [_MARGIN + neutral(command)]
    lines, line = [], _MARGIN
    for word in words:
        if line.strip() and cell_len(line) + 1 + cell_len(word) + 2 > width:
            lines.append(f"{line} \\")
            line = _MARGIN * 2
        line += word if not line.strip() else f" {word}"
    return [*lines, line]
