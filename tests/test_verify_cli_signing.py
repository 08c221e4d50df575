"""`--sign-with` and `--check-report` as options: what is written when, what is refused as usage, what is said."""

import hashlib
import json
import os
from pathlib import Path

import attestations as a
import certificates as c
import pytest
from pdf_reader import Pdf

import verify.check
from verify.artefact.attestation import read_attestation
from verify.cli import main
from verify.cli.arguments import REPORTS
from verify.cli.signing import MEDIA_TYPES
from verify.contract.verification import ReportAnswer, SvrStatement, VerificationStatement
from verify.errors import UsageError


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as exited:
        main([str(word) for word in words])
    assert isinstance(exited.value.code, int)
    return exited.value.code


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


SIGNED = ["report.html", "result.intoto.json", "result.json"]


def test_a_run_that_passed_leaves_report_and_svr(signed: a.Signed, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(signed.folder) == sorted([*SIGNED, "result.svr.intoto.json"])
    assert read_attestation(signed.report.read_bytes(), VerificationStatement).predicate.verdict == "PASS"
    assert read_attestation(signed.svr.read_bytes(), SvrStatement).predicate.properties == ("MANSU_STATIC",)
    assert a.sign(signed, "--key", signed.certificate.keys.public) == 0
    said = capsys.readouterr()
    assert "signed with" in said.err
    assert "result.svr.intoto.json" in said.err
    assert said.out.startswith("PASS (static")


def test_a_pdf_carries_the_result_and_its_signature(signed: a.Signed, tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", exc_type=OSError, reason="Pango is not installed")
    pdf = signed.folder / "report.pdf"
    assert a.sign(signed, "--key", signed.certificate.keys.public, "--report", f"pdf={pdf}") == 0
    inside = [stream.data for stream in Pdf(pdf.read_bytes()).streams()]
    result = next(data for data in inside if data == signed.result.read_bytes())
    bundle = next(data for data in inside if b"dsseEnvelope" in data and data != result)
    (tmp_path / "result.json").write_bytes(result)
    (tmp_path / "result.intoto.json").write_bytes(bundle)
    assert call("--check-report", tmp_path / "result.intoto.json", "--key", signed.verifier.public) == 0
    bound = read_attestation(signed.report.read_bytes(), VerificationStatement).predicate.reports
    assert hashlib.sha256(pdf.read_bytes()).hexdigest() in [each.digest.sha256 for each in bound]
    (tmp_path / "result.json").write_bytes(result.replace(b"PASS", b"FAIL"))
    assert call("--check-report", tmp_path / "result.intoto.json", "--key", signed.verifier.public) == 1


@pytest.mark.parametrize("code", [1, 3])
def test_a_run_that_did_not_pass_leaves_a_report_and_withdraws_the_svr(
    signed: a.Signed, certificate: c.Certificate, code: int
) -> None:
    spoiled = a.Signed(signed.folder, certificate, signed.verifier)
    if code == 1:
        certificate.ledger.unlink()
    key = () if code == 3 else ("--key", certificate.keys.public)
    assert a.sign(spoiled, *key) == code
    assert names(signed.folder) == SIGNED
    assert call("--check-report", signed.report, "--key", signed.verifier.public) == code


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 4), (UsageError, 2)])
def test_a_run_that_ends_early_leaves_nothing_signed(
    signed: a.Signed, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("")

    monkeypatch.setattr(verify.check, "check", broken)
    assert a.sign(signed, "--key", signed.certificate.keys.public) == code
    assert names(signed.folder) == []


def test_a_report_that_cannot_be_written_leaves_nothing_signed_and_no_verdict(
    signed: a.Signed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise UsageError("no space")

    monkeypatch.setattr("verify.artefact.write_atomic", full)
    assert a.sign(signed, "--key", signed.certificate.keys.public) == 2
    assert names(signed.folder) == []
    said = capsys.readouterr()
    assert "PASS" not in said.out + said.err


def test_every_file_written_is_bound_the_output_too(signed: a.Signed, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    assert a.sign(signed, "--key", signed.certificate.keys.public, "-o", out) == 0
    said = read_attestation(signed.report.read_bytes(), VerificationStatement).predicate
    assert [(file.name, file.mediaType) for file in (said.result, *said.reports)] == [
        ("result.json", "application/json"),
        ("report.html", "text/html"),
        ("out.txt", "text/plain"),
    ]
    check = ("--check-report", signed.report, "--key", signed.verifier.public, "--result", out)
    assert call(*check) == 0
    out.write_text(out.read_text() + " ")
    assert call(*check) == 1


def test_every_form_has_a_media_type() -> None:
    assert set(REPORTS) <= MEDIA_TYPES.keys()


# --- refused as usage ------------------------------------------------------------------------------------------------


def test_the_producers_key_is_refused_and_nothing_is_withdrawn(
    signed: a.Signed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = names(signed.folder)
    producer = signed.certificate.keys
    other = c.make_keys(tmp_path / "other")
    cheat = a.Signed(signed.folder, signed.certificate, producer)
    for trusted in ((), ("--key", producer.public), ("--key", other.public)):
        assert a.sign(cheat, *trusted) == 2
        assert "the key is the producer's" in capsys.readouterr().err
    assert a.sign(a.Signed(signed.folder, signed.certificate, other), "--key", other.public) == 2
    assert names(signed.folder) == before


def test_a_manifest_by_that_key_under_anothers_hint_is_refused(
    certificate: c.Certificate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle = json.loads(certificate.manifest.read_bytes())
    bundle["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    certificate.manifest.write_text(json.dumps(bundle))
    assert a.sign(a.Signed(tmp_path / "new", certificate, certificate.keys)) == 2
    assert "the key is the producer's" in capsys.readouterr().err


def test_a_manifest_exchanged_while_it_was_checked_is_not_signed_for(
    signed: a.Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate of the verifier's own making comes in after the first look at the manifest."""
    monkeypatch.setattr("verify.artefact.bundle.signed_by", lambda *_: False)
    producer = signed.certificate.keys
    cheat = a.Signed(signed.folder, signed.certificate, producer)
    monkeypatch.setattr("verify.cli.signing._require_another", lambda *_: None)
    assert a.sign(cheat, "--key", producer.public) == 2
    assert names(signed.folder) == ["report.html", "result.json"]


@pytest.mark.parametrize("what", ["public", "missing", "garbage"])
def test_a_key_that_cannot_sign(signed: a.Signed, tmp_path: Path, what: str) -> None:
    path = {"public": signed.verifier.public, "missing": tmp_path / "none.pem", "garbage": signed.html}[what]
    keys = c.Keys(path, signed.verifier.public)
    before = names(signed.folder)
    assert a.sign(a.Signed(signed.folder, signed.certificate, keys)) == 2
    assert names(signed.folder) == before


@pytest.mark.parametrize("through", ["itself", "a link to it", "the link given"])
def test_no_report_is_written_over_a_key(signed: a.Signed, tmp_path: Path, through: str) -> None:
    private = signed.verifier.private
    content = private.read_bytes()
    link = tmp_path / "link.pem"
    link.symlink_to(private)
    key, target = {"itself": (private, private), "a link to it": (private, link), "the link given": (link, private)}[
        through
    ]
    made = signed.certificate
    common = (made.model, "--manifest", made.manifest, "--checks", "static", "--sign-with", key)
    for report in ((f"json={target}",), (f"json={tmp_path / 'r.json'}", "--report", f"html={target}")):
        assert call(*common, "--report", *report) == 2
    assert call(*common, "--report", f"json={tmp_path / 'r.json'}", "-o", target) == 2
    assert private.read_bytes() == content
    assert link.is_symlink()


def test_the_private_key_is_not_what_the_report_would_be_called(signed: a.Signed, tmp_path: Path) -> None:
    key = tmp_path / "r.intoto.json"
    key.write_bytes(signed.verifier.private.read_bytes())
    made = signed.certificate
    common = (made.model, "--manifest", made.manifest, "--checks", "static", "--sign-with", key)
    assert call(*common, "--report", f"json={tmp_path / 'r.json'}") == 2
    assert key.read_bytes() == signed.verifier.private.read_bytes()


def test_one_name_for_two_files_is_refused(signed: a.Signed, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    assert a.sign(signed, "--report", f"text={tmp_path / 'more' / 'report.html'}") == 2
    assert a.sign(signed, "--report", f"text={signed.report}") == 2
    assert a.sign(signed, "--report", f"text={tmp_path / 'a:b.txt'}") == 2


def test_something_to_sign_is_needed(signed: a.Signed, capsys: pytest.CaptureFixture[str]) -> None:
    made = signed.certificate
    sign = ("--sign-with", signed.verifier.private)
    assert call(made.model, "--manifest", made.manifest, "--checks", "static", *sign) == 2
    assert "--report json=" in capsys.readouterr().err
    assert call("--prove", *sign) == 2
    assert call("--show", "--manifest", made.manifest, *sign) == 2


def test_nothing_is_signed_among_the_signed_files(signed: a.Signed, certificate: c.Certificate) -> None:
    sign = ("--checks", "static", "--sign-with", signed.verifier.private)
    assert (
        call(certificate.model, "--manifest", certificate.manifest, *sign, "--report", f"json={certificate.model}.json")
        == 2
    )


@pytest.mark.parametrize(
    "extra",
    [
        ("--sign-with", "k.pem"),
        ("--report", "html=r.html"),
        ("--base-digest", "0" * 64),
        ("--prove",),
        ("--show",),
        ("--result", "/no/such/file"),
        ("--key", "/no/such/key.pem"),
        ("-o", "/no/such/folder/answer.txt"),
    ],
)
def test_a_report_is_checked_as_it_is(signed: a.Signed, extra: tuple[str, ...]) -> None:
    assert call("--check-report", signed.report, "--key", signed.verifier.public, *extra) == 2


def test_result_means_nothing_without_a_report(signed: a.Signed) -> None:
    made = signed.certificate
    assert call(made.model, "--manifest", made.manifest, "--result", signed.result) == 2


# --- what is said ----------------------------------------------------------------------------------------------------


def test_text_and_json_say_that_the_model_was_not_checked(
    signed: a.Signed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check = ("--check-report", signed.report, "--key", signed.verifier.public)
    assert call(*check) == 0
    text = capsys.readouterr().out
    assert text.startswith("PASS (a report was checked, not the model; exit code 0)\n")
    assert "nothing was measured" in " ".join(text.split())
    assert call(*check, "--format", "json") == 0
    answer = ReportAnswer.model_validate_json(capsys.readouterr().out)
    assert answer.limitations[0].startswith("This checked a signed report and not the model again")
    assert answer.report == read_attestation(signed.report.read_bytes(), VerificationStatement)
    assert call(*check, "-o", tmp_path / "answer.txt") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "answer.txt").read_text() == text


def test_the_answer_is_written_over_nothing_that_is_checked(signed: a.Signed) -> None:
    check = ("--check-report", signed.report, "--key", signed.verifier.public)
    made = signed.certificate
    before = {path: path.read_bytes() for path in signed.folder.iterdir()}
    for path in before:
        assert call(*check, "-o", path) == 2
    for path in (signed.verifier.public, made.manifest, made.out / "model" / "answer.txt"):
        assert call(*check, made.model, "--manifest", made.manifest, "-o", path) == 2
    assert call(*check, "--manifest", made.manifest, "-o", made.manifest) == 2
    assert {path: path.read_bytes() for path in signed.folder.iterdir()} == before


def test_the_producers_key_in_the_environment_is_not_the_verifiers(
    signed: a.Signed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MANSU_KEY", str(signed.certificate.keys.public))
    assert call("--check-report", signed.report, "--key", signed.verifier.public) == 0
    capsys.readouterr()
    assert call("--check-report", signed.report) == 3
    assert "PASS" not in capsys.readouterr().out


def test_it_works_from_the_folder_of_the_report(signed: a.Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(signed.folder)
    assert call("--check-report", "result.intoto.json", "--key", signed.verifier.public) == 0
    os.truncate("report.html", 100)
    assert call("--check-report", "result.intoto.json", "--key", signed.verifier.public) == 1
