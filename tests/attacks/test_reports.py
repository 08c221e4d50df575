"""Forged, swapped and stale reports: `--check-report` refuses each, and the word PASS is nowhere in the answer."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attestations as a
import certificates as c
import pytest

from verify.cli import main
from verify.contract.verification import ReportAnswer

ZERO = "0" * 64
Refuse = Callable[..., set[str]]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Check a report that must be refused, in both forms; return the ids of the checks that failed."""

    def run(signed: a.Signed, *extra: object, key: Path | None = None) -> set[str]:
        failed: set[str] = set()
        for form in ("text", "json"):
            arguments = ["--check-report", signed.report, "--key", key or signed.verifier.public, "--format", form]
            with pytest.raises(SystemExit) as exited:
                main([str(word) for word in (*arguments, *extra)])
            said = capsys.readouterr()
            assert exited.value.code == 1
            assert "PASS" not in said.out + said.err
            assert said.out.isascii() or form == "text"
        answer = ReportAnswer.model_validate_json(said.out)
        assert answer.verdict == "FAIL"
        assert answer.report is None
        failed = {check.id for check in answer.checks if check.status == "fail"}
        assert answer.authentic is (failed.isdisjoint({"MV601", "MV602", "MV603", "MV604", "MV605"}))
        return failed

    return run


# --- the signature ---------------------------------------------------------------------------------------------------


def test_signed_by_a_stranger(signed: a.Signed, refuse: Refuse, tmp_path: Path) -> None:
    a.forge(signed.report, c.make_keys(tmp_path / "stranger"), lambda _: None)
    assert refuse(signed) == {"MV603"}


def test_checked_with_the_producers_key(signed: a.Signed, refuse: Refuse) -> None:
    assert refuse(signed, key=signed.certificate.keys.public) == {"MV603"}


def test_a_producer_who_reports_on_themselves(signed: a.Signed, refuse: Refuse) -> None:
    """Even where the auditor was talked into trusting that key."""
    a.forge(signed.report, signed.certificate.keys, lambda _: None)
    assert refuse(signed, key=signed.certificate.keys.public) == {"MV603"}


def test_a_producer_who_reports_on_themselves_and_names_another_as_the_producer(
    signed: a.Signed, refuse: Refuse
) -> None:
    """The report's own word for it can be false; the manifest's signature cannot."""
    made = signed.certificate
    for path in (signed.result, signed.html, signed.svr):
        path.unlink()
    a.forge(signed.report, made.keys, lambda data: data["predicate"].update(producerKey="0" * 64))
    assert refuse(signed, "--manifest", made.manifest, key=made.keys.public) == {"MV610"}


def test_a_hint_that_names_the_verifier_over_a_strangers_signature(
    signed: a.Signed, refuse: Refuse, tmp_path: Path
) -> None:
    honest = json.loads(signed.report.read_bytes())
    a.forge(signed.report, c.make_keys(tmp_path / "stranger"), lambda _: None)
    forged = {**json.loads(signed.report.read_bytes()), "verificationMaterial": honest["verificationMaterial"]}
    signed.report.write_text(json.dumps(forged))
    assert refuse(signed) == {"MV602"}  # the keyid still names the stranger
    forged["dsseEnvelope"]["signatures"][0]["keyid"] = honest["dsseEnvelope"]["signatures"][0]["keyid"]
    signed.report.write_text(json.dumps(forged))
    assert refuse(signed) == {"MV603"}


@pytest.mark.parametrize("step", [1, 3])
def test_a_flipped_byte_anywhere(signed: a.Signed, refuse: Refuse, step: int) -> None:
    data = signed.report.read_bytes()
    for position in range(step, len(data), len(data) // 9):
        changed = bytearray(data)
        changed[position] ^= 0x02
        signed.report.write_bytes(changed)
        assert refuse(signed) <= {"MV602", "MV603", "MV604"}


def test_a_second_signature(signed: a.Signed, refuse: Refuse) -> None:
    bundle = json.loads(signed.report.read_bytes())
    bundle["dsseEnvelope"]["signatures"] *= 2
    signed.report.write_text(json.dumps(bundle))
    assert refuse(signed) == {"MV602"}


# --- the form --------------------------------------------------------------------------------------------------------


def test_a_payload_type_of_another_kind(signed: a.Signed, refuse: Refuse) -> None:
    a.forge(signed.report, signed.verifier, lambda _: None, payload_type="application/vnd.in-toto.verification+json")
    assert refuse(signed) == {"MV604"}


@pytest.mark.parametrize("kind", ["urn:mansu:unlearning/v1", "urn:mansu:verification/v2", "", 1, None])
def test_another_predicate_type(signed: a.Signed, refuse: Refuse, kind: object) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: statement.update(predicateType=kind))
    assert refuse(signed) == {"MV604"}


def test_a_manifest_passed_off_as_a_report(signed: a.Signed, refuse: Refuse) -> None:
    signed.report.write_bytes(signed.certificate.manifest.read_bytes())
    assert refuse(signed, key=signed.certificate.keys.public) == {"MV604"}


def test_an_svr_passed_off_as_a_report(signed: a.Signed, refuse: Refuse) -> None:
    signed.report.write_bytes(signed.svr.read_bytes())
    assert refuse(signed) == {"MV604"}


def test_duplicate_keys(signed: a.Signed, refuse: Refuse) -> None:
    text = signed.report.read_text()
    signed.report.write_text(text.replace('"mediaType":', '"mediaType":"x","mediaType":', 1))
    assert refuse(signed) == {"MV602"}


def test_duplicate_keys_within_what_is_signed(signed: a.Signed, refuse: Refuse) -> None:
    import base64

    from verify.artefact import load_private
    from verify.artefact.bundle import pack
    from verify.contract.manifest import PAYLOAD_TYPE

    payload = base64.b64decode(json.loads(signed.report.read_bytes())["dsseEnvelope"]["payload"])
    twice = payload.replace(b'"verdict":"PASS"', b'"verdict":"FAIL","verdict":"PASS"')
    assert twice != payload
    signed.report.write_bytes(pack(twice, PAYLOAD_TYPE, load_private(signed.verifier.private)))
    assert refuse(signed) == {"MV602"}


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(more=1),
        lambda said: said.pop("policy"),
        lambda said: said["verifier"].pop("id"),
        lambda said: said["result"].pop("digest"),
        lambda said: said.update(timeVerified="2026-13-01T00:00:00Z"),
        lambda said: said.update(timeVerified="2026-01-01T00:00:00+00:00"),
        lambda said: said.update(exitCode="0"),
        lambda said: said.update(verdict="pass"),
        lambda said: said.update(verificationResult="UNKNOWN"),
        lambda said: said["verifier"].update(id="urn:mansu:verifier/v2"),
    ],
)
def test_fields_that_version_1_does_not_have(signed: a.Signed, refuse: Refuse, change: Callable[[Any], None]) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: change(statement["predicate"]))
    assert refuse(signed) == {"MV602"}


@pytest.mark.parametrize("name", ["../model/config.json", "/etc/passwd", "model/config.json\n", ""])
def test_unsafe_subjects(signed: a.Signed, refuse: Refuse, name: str) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: statement["subject"][0].update(name=name))
    assert refuse(signed) == {"MV602"}


def test_a_subject_twice(signed: a.Signed, refuse: Refuse) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: statement["subject"].append(statement["subject"][0]))
    assert refuse(signed) == {"MV602"}


def test_a_link_a_fifo_and_a_folder(signed: a.Signed, refuse: Refuse) -> None:
    real = signed.report.rename(signed.folder / "real.json")
    signed.report.symlink_to(real)
    assert refuse(signed) == {"MV601"}
    signed.report.unlink()
    os.mkfifo(signed.report)
    assert refuse(signed) == {"MV601"}
    signed.report.unlink()
    signed.report.mkdir()
    assert refuse(signed) == {"MV601"}


def test_a_report_too_large_to_be_one(signed: a.Signed, refuse: Refuse) -> None:
    with signed.report.open("r+b") as stream:
        stream.truncate(1 << 30)
    assert refuse(signed) == {"MV601"}


# --- a report at odds with itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(verdict="FAIL"),
        lambda said: said.update(exitCode=1),
        lambda said: said.update(verificationResult="FAILED"),
        lambda said: said.update(verifiedLevels=["MANSU_FULL"]),
        lambda said: said.update(verifiedLevels=["FAILED"]),
        lambda said: said.update(level="full"),
        lambda said: said.update(inputAttestations=[]),
        lambda said: said.update(producerKey=None),
        lambda said: said.update(baseDigest="not established"),
        lambda said: said["policy"]["digest"].update(sha256=ZERO),
        lambda said: said.update(resourceUri="urn:mansu:certificate:unreadable"),
        lambda said: said["result"].update(name="../result.json"),
        lambda said: said["result"].update(name="report.html"),
        lambda said: said["reports"][0].update(name="a\u202eb.html"),
    ],
)
def test_a_report_at_odds_with_itself(signed: a.Signed, refuse: Refuse, change: Callable[[Any], None]) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: change(statement["predicate"]))
    assert refuse(signed) == {"MV605"}


def test_a_verdict_on_no_model(signed: a.Signed, refuse: Refuse) -> None:
    a.forge(signed.report, signed.verifier, lambda statement: statement.update(subject=statement["subject"][:1]))
    assert refuse(signed) == {"MV605"}


# --- the files it binds ----------------------------------------------------------------------------------------------


def test_an_edited_result(signed: a.Signed, refuse: Refuse) -> None:
    signed.result.write_text(signed.result.read_text().replace('"verdict": "PASS"', '"verdict": "FAIL"'))
    assert refuse(signed) == {"MV606"}


def test_a_result_with_a_space_more(signed: a.Signed, refuse: Refuse) -> None:
    signed.result.write_bytes(signed.result.read_bytes() + b" ")
    assert refuse(signed) == {"MV606"}


def test_the_result_of_another_run(signed: a.Signed, refuse: Refuse, tmp_path: Path) -> None:
    other = a.Signed(tmp_path / "other", signed.certificate, signed.verifier)
    assert a.sign(other) == 3
    signed.result.write_bytes(other.result.read_bytes())
    assert refuse(signed) == {"MV606"}


def test_a_result_named_elsewhere_that_is_not_the_one(signed: a.Signed, refuse: Refuse, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(signed.result.read_bytes() + b"\n")
    assert refuse(signed, "--result", elsewhere) == {"MV606"}


def test_a_result_that_is_a_link(signed: a.Signed, refuse: Refuse) -> None:
    real = signed.result.rename(signed.folder / "real.json")
    signed.result.symlink_to(real)
    assert refuse(signed) == {"MV606"}


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.update(verdict="FAIL"),
        lambda result: result.update(exit_code=3),
        lambda result: result.update(level="full"),
        lambda result: result.update(policy_sha256=ZERO),
        lambda result: result.update(manifest_sha256=ZERO),
        lambda result: result["files"].pop(),
        lambda result: result["files"][0].update(sha256=ZERO),
        lambda result: result["trust"].update(signature="not checked"),
        lambda result: result["trust"].update(base_digest="pinned by the user"),
        lambda result: result["timing"].update(started="2020-01-01T00:00:00Z"),
        lambda result: result.update(schema_="urn:mansu:result/v2"),
        lambda result: result.pop("verdict"),
    ],
)
def test_a_signed_result_that_says_something_else(
    signed: a.Signed, refuse: Refuse, change: Callable[[Any], None]
) -> None:
    """A verifier that signs a report and a result at odds with each other is broken, and not believed."""
    result = json.loads(signed.result.read_text())
    change(result)
    a.bind(signed, signed.result, json.dumps(result).encode())
    assert refuse(signed) == {"MV607"}


def test_a_signed_result_with_two_verdicts(signed: a.Signed, refuse: Refuse) -> None:
    text = signed.result.read_text()
    a.bind(signed, signed.result, text.replace("{", '{"verdict": "FAIL",', 1).encode())
    assert refuse(signed) == {"MV607"}


def test_an_edited_report(signed: a.Signed, refuse: Refuse) -> None:
    signed.html.write_text(signed.html.read_text().replace("static", "full"))
    assert refuse(signed) == {"MV608"}


def test_an_edited_report_named_elsewhere(signed: a.Signed, refuse: Refuse, tmp_path: Path) -> None:
    edited = tmp_path / "report.html"
    edited.write_text(signed.html.read_text() + "<!-- -->")
    assert refuse(signed, "--result", edited) == {"MV608"}


def test_a_report_and_a_result_swapped(signed: a.Signed, refuse: Refuse) -> None:
    result, html = signed.result.read_bytes(), signed.html.read_bytes()
    signed.result.write_bytes(html)
    signed.html.write_bytes(result)
    assert refuse(signed) == {"MV606", "MV608"}


# --- the SVR ---------------------------------------------------------------------------------------------------------


def test_a_report_passed_off_as_an_svr(signed: a.Signed, refuse: Refuse) -> None:
    signed.svr.write_bytes(signed.report.read_bytes())
    assert refuse(signed) == {"MV609"}


@pytest.mark.parametrize(
    "change",
    [
        lambda svr: svr["predicate"].update(timeCreated="2020-01-01T00:00:00Z"),  # an old one
        lambda svr: svr["predicate"]["properties"].append("MANSU_FULL"),
        lambda svr: svr["predicate"]["verifier"]["policy"]["digest"].update(sha256=ZERO),
        lambda svr: svr["subject"][0]["digest"].update(sha256=ZERO),  # of another model
        lambda svr: svr["subject"].pop(),
        lambda svr: svr["predicate"].update(verificationResult="PASSED"),  # a VSA under an SVR's type
    ],
)
def test_an_svr_of_something_else(signed: a.Signed, refuse: Refuse, change: Callable[[Any], None]) -> None:
    a.forge(signed.svr, signed.verifier, change)
    assert refuse(signed) == {"MV609"}


def test_an_svr_by_a_stranger(signed: a.Signed, refuse: Refuse, tmp_path: Path) -> None:
    stranger = c.make_keys(tmp_path / "stranger")
    a.forge(signed.svr, stranger, lambda _: None)
    assert refuse(signed) == {"MV609"}
    assert refuse(signed, "--key", stranger.public) == {"MV609"}  # another verifier the user trusts, not this report's


def test_an_svr_put_beside_a_report_that_did_not_pass(signed: a.Signed, refuse: Refuse) -> None:
    old = signed.svr.read_bytes()
    assert a.sign(signed) == 3  # no key was given
    assert not signed.svr.exists()
    signed.svr.write_bytes(old)
    assert refuse(signed) == {"MV609"}


# --- another model, another manifest ---------------------------------------------------------------------------------


def test_the_report_of_another_model(
    signed: a.Signed, refuse: Refuse, certificate: c.Certificate, tiny_base: Path
) -> None:
    model = certificate.out / "model"
    assert refuse(signed, tiny_base) == {"MV611"}
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    assert refuse(signed, certificate.model) == {"MV611"}


def test_a_file_more_or_less_in_the_model(signed: a.Signed, refuse: Refuse, certificate: c.Certificate) -> None:
    model = certificate.out / "model"
    (model / "modeling.py").write_text("import os")
    assert refuse(signed, model) == {"MV611"}
    (model / "modeling.py").unlink()
    (model / "config.json").unlink()
    assert refuse(signed, model) == {"MV611"}
    (model / "config.json").symlink_to(signed.certificate.out / "model" / "config.json")
    assert refuse(signed, model) == {"MV611"}


def test_another_manifest(signed: a.Signed, refuse: Refuse, certificate: c.Certificate) -> None:
    certificate.manifest.write_bytes(certificate.manifest.read_bytes() + b" ")
    assert refuse(signed, "--manifest", certificate.manifest) == {"MV610"}


def test_names_from_a_report_speak_to_no_terminal_and_no_log(
    signed: a.Signed, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "::error::\x1b[2J\u202e"
    a.forge(signed.report, signed.verifier, lambda s: s["predicate"]["verifier"]["version"].update({hostile: hostile}))
    with pytest.raises(SystemExit) as exited:
        main(["--check-report", str(signed.report), "--key", str(signed.verifier.public)])
    said = capsys.readouterr().out
    assert exited.value.code == 0
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "::" not in said


def test_the_digest_signed_is_that_of_the_exact_bytes(signed: a.Signed) -> None:
    said = a.payload_of(signed.report)["predicate"]
    for file in (said["result"], *said["reports"]):
        content = (signed.folder / file["name"]).read_bytes()
        assert file["digest"]["sha256"] == hashlib.sha256(content).hexdigest()
