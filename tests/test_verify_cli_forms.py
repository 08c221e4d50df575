"""`mansu-verify`: every form of output, with and without a result; detail, colour, explanations, completion."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import fromstring

import certificates as c
import pytest
from test_verify_cli import Said, words

import verify.check
import verify.cli.output
from verify.cli import main
from verify.cli.failure import form_asked
from verify.contract.catalogue import CHECKS
from verify.contract.failure import Failure

Call = Callable[..., Said]
FORMS = ("text", "json", "markdown", "sarif", "junit")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.delenv("MANSU_KEY", raising=False)

    def run(*given: object) -> Said:
        with pytest.raises(SystemExit) as exited:
            main([str(word) for word in given])
        captured = capsys.readouterr()
        return Said(exited.value.code, captured.out, captured.err)

    return run


def says_pass(form: str, out: str) -> bool:
    """Tell whether a reader of this form would take the output for a pass."""
    if form == "sarif":
        run = json.loads(out)["runs"][0]
        return run["invocations"][0]["executionSuccessful"] and not run["results"]
    if form == "junit":
        root = fromstring(out)
        return root.get("failures") == root.get("errors") == "0"
    if form == "json":
        return json.loads(out).get("verdict") == "PASS"
    return "PASS" in out.partition("\n")[0]


@pytest.mark.parametrize("form", FORMS)
def test_no_form_changes_the_exit_code_or_the_answer(certificate: c.Certificate, call: Call, form: str) -> None:
    key = ("--key", certificate.keys.public)
    for spoil, extra, code in ((False, (), 3), (False, key, 0), (True, key, 1)):
        if spoil:
            certificate.ledger.unlink()
        said = call(*words(certificate, *extra, "--format", form, "-q"))
        assert said.code == code
        assert says_pass(form, said.out) is (code == 0)


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize(
    "wrong",
    [("--bogus",), ("--base-digest", "abc"), ("--report", "html"), ("--checks", "none"), ("--explain", "MV999")],
)
def test_usage_errors_come_in_the_form_asked_for(
    tiny_certificate: c.Certificate, call: Call, form: str, wrong: tuple[str, ...]
) -> None:
    for spelt in (("--format", form), (f"--format={form}",)):
        said = call(*words(tiny_certificate, *spelt, *wrong))
        assert said.code == 2
        assert not says_pass(form, said.out)
        assert "PASS" not in said.out + said.err
        assert said.err.strip()
        if form == "json":
            failure = Failure.model_validate_json(said.out)
            assert (failure.id, failure.exit_code) == ("ME200", 2)
            assert failure.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("error", "expected"), [(ZeroDivisionError("bug"), 4), (KeyboardInterrupt(), 130)])
def test_bugs_and_interruptions_too(
    tiny_certificate: c.Certificate,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    error: BaseException,
    expected: int,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(verify.check, "check", broken)
    said = call(*words(tiny_certificate, "--format", form))
    assert said.code == expected
    if form == "text":
        assert said.out == ""
    else:
        assert not says_pass(form, said.out)
    assert f"ME{'400' if expected == 4 else '130'}" in said.err
    if form == "json":
        assert Failure.model_validate_json(said.out).exit_code == expected


def test_a_refused_manifest_is_an_error_object_too(certificate: c.Certificate, call: Call) -> None:
    certificate.manifest.write_bytes(b"{}")
    said = call("--manifest", certificate.manifest, "--show", "--format", "json")
    assert said.code == 1
    failure = Failure.model_validate_json(said.out)
    assert (failure.id, failure.exit_code) == ("MV102", 1)
    assert failure.found


def test_the_last_form_counts_and_none_after_two_dashes() -> None:
    assert form_asked(["--format", "sarif", "--format=json"]) == "json"
    assert form_asked(["--", "--format", "json"]) == "text"
    assert form_asked(["--format"]) == form_asked(["--format", "xml"]) == form_asked([]) == "text"


def test_an_old_answer_does_not_outlive_a_run_that_dies(
    tiny_certificate: c.Certificate, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, report, kept = tmp_path / "r.json", tmp_path / "r.xml", tmp_path / "kept.txt"
    for path in (out, report, kept):
        path.write_text("PASS")
    options = ("--format", "json", "-o", out, "--report", f"junit={report}")
    assert call(*words(tiny_certificate, *options, "--base-digest", "x")).code == 2
    monkeypatch.setattr(verify.check, "check", lambda *_, **__: 1 / 0)
    assert call(*words(tiny_certificate, *options)).code == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.txt"]


def test_every_report_is_written(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    forms = ("html", "json", "text", "markdown", "sarif", "junit")
    reports = [word for form in forms for word in ("--report", f"{form}={tmp_path / form}")]
    said = call(*words(tiny_certificate, "--key", tiny_certificate.keys.public, "-q", *reports))
    assert said.code == 0
    assert said.out.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(forms)
    assert (tmp_path / "text").read_text().count("\n") > 50


def test_a_pdf_is_written_whole(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "r.pdf"
    assert call(*words(tiny_certificate, "--key", tiny_certificate.keys.public, "--report", f"pdf={path}")).code == 0
    assert path.read_bytes().startswith(b"%PDF")
    assert path.read_bytes().rstrip().endswith(b"%%EOF")


def test_without_pango_a_pdf_is_refused_before_the_check(
    tiny_certificate: c.Certificate, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class NoPango:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "weasyprint":
                raise OSError("cannot load library 'libpango-1.0-0'")

    for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoPango(), *sys.meta_path])
    monkeypatch.setattr(verify.check, "check", lambda *_, **__: pytest.fail("it was checked"))
    said = call(*words(tiny_certificate, "--report", f"pdf={tmp_path / 'r.pdf'}"))
    assert said.code == 2
    assert "libpango" in said.err
    assert "apt install" in said.err
    assert list(tmp_path.iterdir()) == []


def test_quiet_says_one_line_and_verbose_everything(tiny_certificate: c.Certificate, call: Call) -> None:
    key = ("--key", tiny_certificate.keys.public)
    quiet = call(*words(tiny_certificate, *key, "-q"))
    assert re.fullmatch(r"PASS \(static: .*; exit code 0\)\n", quiet.out)
    assert quiet.err == ""
    normal, verbose = call(*words(tiny_certificate, *key)), call(*words(tiny_certificate, *key, "-v"))
    assert len(verbose.out) > len(normal.out)
    for entry in CHECKS:
        assert sum(line[2:].startswith(entry.id) for line in normal.out.splitlines()) == 1
    assert call(*words(tiny_certificate, *key, "-q", "-v")).code == 2


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert verify.cli.output.in_colour(None) is coloured
    assert not verify.cli.output.in_colour(Path("r.txt"))


def test_output_to_a_pipe_has_no_colour(tiny_certificate: c.Certificate, call: Call) -> None:
    said = call(*words(tiny_certificate, "--key", tiny_certificate.keys.public))
    assert "\x1b" not in said.out


def test_explain_needs_no_certificate(call: Call) -> None:
    said = call("--explain", "mv203")
    assert said.code == 0
    assert said.out.startswith("MV203: Floor: ")
    assert json.loads(call("--explain", "ME200", "--format", "json").out)["id"] == "ME200"
    page = call("--explain", "MV203", "--format", "markdown").out
    assert page == (Path(__file__).parent.parent / "docs/checks/MV203.md").read_text(encoding="utf-8")
    assert call("--explain", "MV203", "--format", "sarif").code == 2
    assert call("--prove", "--format", "junit").code == 2


@pytest.mark.parametrize(
    ("command", "module", "typed", "offered"),
    [
        ("MANSU_VERIFY", "verify.cli", "mansu-verify --manif", "--manifest"),
        ("MANSU_VERIFY", "verify.cli", "mansu-verify --format sa", "sarif"),
        ("MANSU_VERIFY", "verify.cli", "mansu-verify --explain MV20", "MV203"),
        ("MANSU_VERIFY", "verify.cli", "mansu-verify --report ju", "junit="),
        ("MANSU", "mansu.cli", "mansu trade", "tradeoff"),
        ("MANSU", "mansu.cli", "mansu unlearn --forg", "--forget"),
    ],
)
def test_shells_can_complete(command: str, module: str, typed: str, offered: str) -> None:
    asked = {f"_{command}_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    environment = {**os.environ, **asked, "PYTHONPATH": str(Path(__file__).parent.parent)}
    call = [sys.executable, "-m", module]
    run = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert offered in run.stdout.split()
