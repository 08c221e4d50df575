"""`mansu-verify`: options, exit codes, where output goes. Verdicts on spoiled certificates are in tests/attacks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import certificates as c
import pytest

import verify.check
import verify.nf4.proofs
from verify.cli import main
from verify.cli.arguments import require_writable
from verify.contract.result import Result
from verify.contract.theorems import STATEMENTS, Theorem
from verify.errors import UsageError


class Said:
    def __init__(self, code: object, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.delenv("MANSU_KEY", raising=False)

    def run(*words: object) -> Said:
        with pytest.raises(SystemExit) as exited:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(exited.value.code, captured.out, captured.err)

    return run


def words(made: c.Certificate, *extra: object) -> list[object]:
    return [made.model, "--manifest", made.manifest, "--checks", "static", *extra]


def test_text_goes_to_stdout_and_progress_to_stderr(tiny_certificate: c.Certificate, call: Call) -> None:
    said = call(*words(tiny_certificate, "--key", tiny_certificate.keys.public))
    assert said.code == 0
    assert said.out.startswith("PASS (static")
    assert "Reading every byte" in said.err
    assert "Reading and hashing" not in said.out


def test_json_is_the_result(tiny_certificate: c.Certificate, call: Call) -> None:
    said = call(*words(tiny_certificate, "--key", tiny_certificate.keys.public, "--format", "json"))
    assert said.code == 0
    result = Result.model_validate_json(said.out)
    assert (result.verdict, result.level) == ("PASS", "static")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_form_never_changes_the_exit_code(certificate: c.Certificate, call: Call, form: str) -> None:
    key = ("--key", certificate.keys.public)
    assert call(*words(certificate, "--format", form)).code == 3
    assert call(*words(certificate, *key, "--format", form)).code == 0
    certificate.ledger.unlink()
    assert call(*words(certificate, *key, "--format", form)).code == 1


def test_reports_and_output_files(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    html, as_json, out = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "r.txt"
    key = ("--key", tiny_certificate.keys.public)
    said = call(*words(tiny_certificate, *key, "--report", f"html={html}", "--report", f"json={as_json}", "-o", out))
    assert (said.code, said.out) == (0, "")
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(as_json.read_text())["verdict"] == "PASS"
    assert out.read_text().startswith("PASS")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json", "r.txt"]


def test_the_key_may_come_from_the_environment(
    tiny_certificate: c.Certificate, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANSU_KEY", str(tiny_certificate.keys.public))
    assert call(*words(tiny_certificate)).code == 0


def test_one_of_several_keys_suffices(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    other = c.make_keys(tmp_path / "other").public
    said = call(*words(tiny_certificate, "--key", other, "--key", tiny_certificate.keys.public))
    assert said.code == 0


@pytest.mark.parametrize(
    "extra",
    [
        ("--checks", "none"),
        ("--format", "xml"),
        ("--unknown",),
        ("--base-digest", "abc"),
        ("--base-digest", "model.safetensors=" + "g" * 64),
        ("--report", "xml=x.xml"),
        ("--report", "html"),
        ("--report", "html=/no/such/folder/r.html"),
        ("-o", "/no/such/folder/r.txt"),
        ("--key", "/no/such/key.pem"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_why_on_stderr(
    tiny_certificate: c.Certificate, call: Call, extra: tuple[str, ...]
) -> None:
    said = call(*words(tiny_certificate, *extra))
    assert (said.code, said.out) == (2, "")
    assert said.err.strip()


def test_missing_arguments_are_wrong_usage(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    for arguments in (
        (),
        (tiny_certificate.model,),
        ("--manifest", tiny_certificate.manifest),
        (tiny_certificate.model, "--manifest", tmp_path / "m.json"),
        (tmp_path / "model.safetensors", "--manifest", tiny_certificate.manifest),
    ):
        said = call(*arguments)
        assert (said.code, said.out) == (2, "")
        assert "ME200" in said.err


def test_a_private_key_is_refused(tiny_certificate: c.Certificate, call: Call) -> None:
    said = call(*words(tiny_certificate, "--key", tiny_certificate.keys.private))
    assert said.code == 2
    assert "private" in said.err


def test_reports_are_not_written_among_the_signed_files(certificate: c.Certificate, call: Call) -> None:
    before = c.digests_of(certificate.out)
    key = ("--key", certificate.keys.public)
    for path in ("model/r.html", "probes/r.html", "m.json", "ledger.safetensors", "model.sig"):
        for option in (("--report", f"html={certificate.out / path}"), ("-o", certificate.out / path)):
            assert call(*words(certificate, *key, *option)).code == 2
    assert c.digests_of(certificate.out) == before


def test_reports_do_not_take_the_place_of_a_device(tiny_certificate: c.Certificate, call: Call, tmp_path: Path) -> None:
    """A file is written under another name and renamed: what is no file would be gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for option in (("-o", pipe), ("--report", f"json={pipe}")):
        assert call(*words(tiny_certificate, "--key", tiny_certificate.keys.public, *option)).code == 2
    assert pipe.is_fifo()


def test_show_prints_the_manifest_and_warns(tiny_certificate: c.Certificate, call: Call) -> None:
    said = call("--manifest", tiny_certificate.manifest, "--show")
    assert said.code == 0
    assert json.loads(said.out)["predicate"]["method"]["name"] == "a few valid moves"
    assert said.out.isascii()
    assert "unverified" in said.err


def test_show_refuses_a_malformed_manifest(certificate: c.Certificate, call: Call) -> None:
    certificate.manifest.write_bytes(b"{}")
    said = call("--manifest", certificate.manifest, "--show")
    assert said.code == 1
    assert "MV102" in said.err


@pytest.mark.parametrize("debug", [False, True])
def test_whatever_is_not_foreseen_is_exit_4(
    tiny_certificate: c.Certificate, call: Call, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug\nof two lines")

    monkeypatch.setattr(verify.check, "check", broken)
    said = call(*words(tiny_certificate), *(["--debug"] if debug else []))
    assert (said.code, said.out) == (4, "")
    assert "ME400: internal error: ZeroDivisionError: a bug of two lines" in said.err
    assert ("Traceback" in said.err) is debug


def test_interruption_is_exit_130(tiny_certificate: c.Certificate, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify.check, "check", interrupted)
    assert call(*words(tiny_certificate)).code == 130


def proved(*, failing: bool) -> Callable[[], tuple[Theorem, ...]]:
    first, second = STATEMENTS[:2]
    return lambda: (
        Theorem(first, "proved" if failing else "refuted", "x = 1", (("bins", "1"),), "by hand", 0.01),
        Theorem(second, "proved", "", (), "by hand", 0.02),
    )


@pytest.mark.parametrize(("failing", "code"), [(False, 0), (True, 1)])
def test_prove_needs_no_manifest_and_fails_on_another_outcome(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: bool, code: int
) -> None:
    monkeypatch.setattr(verify.nf4.proofs, "prove_all", proved(failing=failing))
    said = call("--prove")
    assert said.code == code
    assert said.out.startswith("T1  half a bin: ")
    as_json = call("--prove", "--format", "json")
    assert as_json.code == code
    assert json.loads(as_json.out)["holds"] is not failing
    written = call("--prove", "-o", tmp_path / "t.txt")
    assert (written.code, written.out) == (code, "")
    assert (tmp_path / "t.txt").read_text() == said.out
    assert call("--prove", "-o", tmp_path / "none" / "t.txt").code == 2


def test_version(call: Call) -> None:
    said = call("--version")
    assert said.code == 0
    assert said.out.startswith("mansu-verify 0.")


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, verify.cli\ntry: verify.cli.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--base-digest" in run.stdout
    assert run.stdout.endswith("False\n")


@pytest.mark.parametrize("option", ["--key", "--policy", "--cert-root", "--probes"])
def test_nothing_is_written_over_what_the_check_rests_on(
    tiny_certificate: c.Certificate, call: Call, tmp_path: Path, option: str
) -> None:
    """What an output replaces is removed before the check begins, a key among the rest."""
    given = tmp_path / "given"
    given.mkdir()
    path = given / "choices.jsonl"
    path.write_text("mine")
    named = given if option == "--probes" else path
    for output in (("-o", path), ("--report", f"json={path}"), ("--report", f"text={given}/../given/choices.jsonl")):
        said = call(tiny_certificate.model, "--manifest", tiny_certificate.manifest, option, named, *output)
        assert (said.code, "among what you gave" in said.err) == (2, True)
        assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/null", "/dev/fd/1", "/proc/self/fd/1", "/dev/new"])
def test_a_stream_is_no_output_file(path: str) -> None:
    """Under a shell's `>` these are files, and would be replaced: the link of the system, not what it leads to."""
    with pytest.raises(UsageError, match="cannot write"):
        require_writable(Path(path))


def test_shared_memory_is_an_ordinary_place() -> None:
    if Path("/dev/shm").is_dir():
        require_writable(Path("/dev/shm/mansu-result.json"))
