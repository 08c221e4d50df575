"""The result as terminal text: verdict first, nothing wider than asked, nothing a terminal or a CI log would obey."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, chop_cells

from reports import wording
from verify.contract.result import AxisRow, CheckResult, Erasure, Permanence, Result

_MARGIN = "  "


def render_text(result: Result, *, width: int = 80) -> str:
    """Return the result as lines of at most `width` columns (40 or more) with a final newline.

    Only a single word of the command to repeat may be longer: a broken command would be worse than a long line.
    """
    level = f"({wording.LEVEL[result.level]}; exit code {result.exit_code})"
    lines = [*wrap(level, width, first=f"{result.verdict} "), "", *wrap(result.headline, width)]
    lines += _facts(
        width,
        ("Rests on", result.rests_on),
        ("Signature", wording.signature(result)),
        ("Base model", wording.base_digest(result)),
        ("Policy", wording.policy_origin(result)),
        ("Pre-registered", wording.PRE_REGISTRATION[result.pre_registration]),
        ("Probes", wording.probes(result)),
    )
    sections = (
        ("Four axes, with 95 % intervals", _axes(result, width)),
        ("Checks", _checks(result, width)),
        ("Permanence under quantization", _permanence(result.permanence, width)),
        ("Structural erasure", _erasure(result, width)),
        ("What this does not prove", _bullets((*result.limitations, *result.notes), width)),
        ("Repeat it", _command(result.repeat, width)),
    )
    for title, body in sections:
        lines += ["", title, "-" * len(title), *body]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def neutral(text: str) -> str:
    """Return `text` with hidden characters shown and the marks of CI commands (`::`, `##`) broken by a space."""
    shown = wording.visible(text)
    for mark in (":", "#"):
        while mark * 2 in shown:
            shown = shown.replace(mark * 2, f"{mark} {mark}")
    return shown


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


def _checks(result: Result, width: int) -> Iterator[str]:
    yield wording.tally(result)
    for check in wording.open_checks(result):
        yield from _open_check(check, width)


def _open_check(check: CheckResult, width: int) -> Iterator[str]:
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
