import re
import shlex
from pathlib import Path

import pytest
from rich.cells import cell_len

from reports.plain import neutral
from reports.text import coloured, render_entry_text, render_text, wrap
from verify.contract.catalogue import ENTRIES
from verify.contract.result import Result
from verify.contract.theorems import STATEMENTS

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("pass_full", "fail_static", "undecided_full")


def load(name: str, **changes: object) -> Result:
    result = Result.model_validate_json((GOLDEN / f"report_{name}.json").read_text(encoding="utf-8"))
    return result.model_copy(update=changes)


def hostile(text: str) -> Result:
    result = load("fail_static")
    checks = tuple(check.model_copy(update={"found": text, "title": text}) for check in result.checks)
    return result.model_copy(update={"checks": checks, "headline": text, "notes": (text,), "rests_on": text})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_fit_the_width(name: str, width: int) -> None:
    lines = render_text(load(name), width=width).splitlines()
    command = lines.index("Repeat it")
    assert max(map(cell_len, lines[: command if width < 80 else None])) <= width


@pytest.mark.parametrize(
    "text", ["x" * 500, "漢字" * 200, "word " * 100, "a\nb\r\n::error::c", "::error ::x", "##vso[task]", ":" * 99]
)
def test_hostile_text_neither_overflows_nor_commands(text: str) -> None:
    rendered = render_text(hostile(text))
    for line in rendered.splitlines():
        assert cell_len(line) <= 80
        assert not line.lstrip().startswith("::")
        assert "##" not in line
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", rendered) is None


def test_hidden_characters_become_visible() -> None:
    assert neutral("a\x1b[2J\x00\x7f\u202eb") == "a␛[2J␀␡\\u202eb"
    assert neutral("é–漢") == "é–漢"
    assert neutral("a" * 2005) == "a" * 2000 + "… (5 characters more)"


def test_verdict_and_headline_come_first() -> None:
    for name in NAMES:
        lines = render_text(load(name)).splitlines()
        assert lines[0].startswith(load(name).verdict)
        assert load(name).headline.startswith(lines[2])


def test_failed_checks_say_what_to_do_and_passed_ones_are_counted() -> None:
    text = render_text(load("fail_static"))
    assert "8 passed, 2 failed, 0 undecided, 1 skipped" in text
    assert "MV202 failed" in text
    assert text.count("\n  next ") == 2
    assert "\nWhat a check means: mansu-verify --explain MV202\n" in text


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("text", ["short", "long words " * 30, "漢字" * 200])
def test_every_check_has_one_line_with_expected_and_found(width: int, text: str) -> None:
    result = load("fail_static")
    checks = tuple(check.model_copy(update={"expected": text, "found": text}) for check in result.checks)
    lines = render_text(result.model_copy(update={"checks": checks}), width=width).splitlines()
    for check in checks:
        (line,) = [line for line in lines if line[2:].startswith(check.id)]
        assert cell_len(line) <= width
        if check.status == "pass":
            expected, found = line.removeprefix(f"✓ {check.id} expected: ").split("; found: ")
            assert text[:10].startswith(expected[:4])
            assert text[:10].startswith(found[:4])


def test_quiet_is_the_verdicts_line_and_verbose_is_everything() -> None:
    for name in NAMES:
        result = load(name)
        quiet = render_text(result, detail="quiet")
        assert render_text(result).splitlines()[0] == quiet.removesuffix("\n")
        verbose = render_text(result, detail="verbose")
        assert max(map(cell_len, verbose.splitlines())) <= 80
        for check in result.checks:
            assert check.title.split()[-1] in verbose
        assert all(file.sha256 in verbose for file in result.files)
        assert result.policy_sha256 in verbose
        assert "forget_accuracy: 0.08" in verbose


def test_colour_adds_nothing_but_colour() -> None:
    for name in NAMES:
        plain = render_text(load(name))
        painted = coloured(plain)
        assert "\x1b[" in painted
        assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_an_explanation_has_its_four_parts_in_80_columns() -> None:
    for entry in ENTRIES.values():
        lines = render_entry_text(entry).splitlines()
        assert max(map(cell_len, lines)) <= 80
        assert {"What it means", "Why it matters", "How to fix it"} <= set(lines)
        assert " ".join(lines[0].split()).startswith(f"{entry.id}: ")


def test_numbers_of_the_axes_are_the_results_own() -> None:
    text = render_text(load("pass_full"))
    assert re.search(r"accuracy +0\.767 +0\.647 +0\.020 +0\.013", text)
    assert "difference −0.747, interval −0.813 to −0.673" in text
    assert "CAD 0.865 [0.832, 0.891]" in text
    assert "43,217 of 134,515,008 parameters" in text
    assert text.count("all values meet all conditions; codes changed outside the mask: 0") == 2
    assert re.search(r"^  crossing  43,205 of 43,217$", render_text(load("fail_static")), re.MULTILINE)


def test_permanence_cites_the_theorems_it_rests_on_by_name() -> None:
    words = " ".join(render_text(load("pass_full")).split())
    for statement in STATEMENTS:
        cited = re.search(rf"{statement.id} {re.escape(statement.name)}[,.]", words)
        assert (cited is not None) is bool(statement.rows)
    assert "T1 half a bin," not in render_text(load("pass_full", permanence=()))


def test_command_stays_one_command() -> None:
    command = "mansu-verify check 'my folder/cert' --key 'it'\\''s.pub' " + " ".join(
        f"--option-{i} {i}" for i in range(20)
    )
    text = render_text(load("pass_full", repeat=command))
    shown = text.split("Repeat it\n---------\n")[1]
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(command)
    assert max(map(len, shown.splitlines())) <= 80


def test_command_with_an_open_quote_is_left_alone() -> None:
    assert render_text(load("pass_full", repeat="run 'it")).endswith("  run 'it\n")


def test_wrap_hangs_and_cuts() -> None:
    assert wrap("one two three", 9, first="- ", rest="  ") == ["- one two", "  three"]
    assert wrap("abcdefghij", 6, first="> ", rest="  ") == ["> abcd", "  efgh", "  ij"]
    assert wrap("", 10, first="- ") == ["- "]
