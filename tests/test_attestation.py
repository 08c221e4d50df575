"""What is signed of a result, and what the check of a report makes of files that are there, elsewhere or gone.

`python tests/test_attestation.py` writes the golden statements anew. What is forged or swapped: tests/attacks.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attestations as a
import certificates as c
import pytest
import rfc8785
from securesystemslib.exceptions import VerificationError

from verify.attestation import check_report, report_path, report_statement, svr_path, svr_statement
from verify.attestation.answers import completed, record, verdict
from verify.checks.catalog import CATALOGUE, REPORT_CATALOGUE
from verify.contract.manifest import Digest
from verify.contract.result import Result, Timing, Trust
from verify.contract.schema import FileDigest
from verify.contract.verification import BoundFile, SvrStatement, VerificationStatement
from verify.errors import UsageError

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parent.parent / "docs"
VERSIONS = {"mansu": "0.1.0", "torch": "2.13.0"}
RESULT = BoundFile(name="result.json", mediaType="application/json", digest=Digest(sha256="01" * 32))
HTML = BoundFile(name="report.html", mediaType="text/html", digest=Digest(sha256="02" * 32))
CASES = ("pass_full", "fail_static", "undecided_full")


def result(case: str, **changes: object) -> Result:
    """Return a golden result whose digests do not depend on the schema of policies and results."""
    loaded = Result.model_validate_json((GOLDEN / f"report_{case}.json").read_text(encoding="utf-8"))
    fixed = {
        "policy_sha256": "03" * 32,
        "manifest_sha256": "04" * 32,
        "files": tuple(
            FileDigest(name=name, sha256=digest * 32)
            for name, digest in (
                ("ledger.safetensors", "05"),
                ("model/config.json", "06"),
                ("model/model.safetensors", "07"),
            )
        ),
        "trust": Trust(key_fingerprint="08" * 32, signature="valid", base_digest="pinned by the user"),
        "timing": Timing(started="2026-11-24T08:02:11Z", seconds=1.5),
    }
    return loaded.model_copy(update={**fixed, **changes})


def statement(case: str, **changes: object) -> VerificationStatement:
    return report_statement(result(case, **changes), RESULT, [HTML], versions=VERSIONS)


def golden() -> dict[str, object]:
    """Return every golden statement: three reports, and the SVR of the one that passed."""
    found: dict[str, object] = {f"report_{case}": statement(case) for case in CASES}
    found["svr_pass_full"] = svr_statement(statement("pass_full"))
    return {name: value.model_dump(mode="json", by_alias=True) for name, value in found.items()}  # type: ignore[attr-defined]


def test_golden_statements() -> None:
    expected = json.loads((GOLDEN / "attestations.json").read_text(encoding="utf-8"))
    assert golden() == expected
    for name, value in expected.items():
        kind = SvrStatement if name.startswith("svr") else VerificationStatement
        assert kind.model_validate_json(rfc8785.dumps(value)).model_dump(mode="json", by_alias=True) == value


@pytest.mark.parametrize("case", ["fail_static", "undecided_full"])
def test_what_did_not_pass_is_failed_to_slsa_and_has_no_svr(case: str) -> None:
    said = statement(case).predicate
    assert (said.verificationResult, said.verifiedLevels) == ("FAILED", ("FAILED",))
    with pytest.raises(ValueError, match="only a report that passed"):
        svr_statement(statement(case))


def test_an_svr_is_about_the_model_alone_and_needs_one() -> None:
    svr = svr_statement(statement("pass_full"))
    assert [subject.name for subject in svr.subject] == ["model/config.json", "model/model.safetensors"]
    assert svr.predicate.properties == ("MANSU_STATIC", "MANSU_FULL", "MANSU_BASE_PINNED")
    claimed = Trust(key_fingerprint="08" * 32, signature="valid", base_digest="claimed by the producer")
    assert "MANSU_BASE_PINNED" not in svr_statement(statement("pass_full", trust=claimed)).predicate.properties
    with pytest.raises(ValueError, match="only a report that passed"):
        svr_statement(statement("pass_full", files=()))


def test_a_refusal_of_what_could_not_be_read_is_about_the_manifest_or_else_the_result() -> None:
    named = statement("fail_static", files=())
    assert [(s.name, s.digest.sha256) for s in named.subject] == [("m.json", "04" * 32)]
    unread = statement("fail_static", files=(), manifest_sha256=None)
    assert [(s.name, s.digest.sha256) for s in unread.subject] == [("result.json", "01" * 32)]
    assert unread.predicate.inputAttestations == ()


def test_a_key_that_did_not_sign_is_no_producers_key() -> None:
    for signature in ("invalid", "not checked"):
        trust = Trust(key_fingerprint="08" * 32, signature=signature, base_digest="not established")  # type: ignore[arg-type]
        assert statement("fail_static", trust=trust).predicate.producerKey is None


@pytest.mark.parametrize(
    ("result", "report", "svr"),
    [
        ("result.json", "result.intoto.json", "result.svr.intoto.json"),
        ("a.b.json", "a.b.intoto.json", "a.b.svr.intoto.json"),
        ("result", "result.intoto.json", "result.svr.intoto.json"),
    ],
)
def test_signed_files_lie_beside_the_result(result: str, report: str, svr: str) -> None:
    assert report_path(Path("x") / result) == Path("x") / report
    assert svr_path(Path("x") / report) == Path("x") / svr


def statuses(signed: a.Signed, **given: object) -> dict[str, str]:
    answer = check_report(signed.report, keys=[signed.verifier.public], **given)  # type: ignore[arg-type]
    return {check.id: check.status for check in answer.checks}


def test_everything_there_and_given_holds(signed: a.Signed) -> None:
    given = {"model": signed.certificate.model, "manifest": signed.certificate.manifest}
    assert statuses(signed, **given) == dict.fromkeys(REPORT_CATALOGUE, "pass")
    answer = check_report(signed.report, keys=[signed.verifier.public], **given)
    assert (answer.verdict, answer.exit_code, answer.authentic) == ("PASS", 0, True)
    assert answer.report is not None
    assert all("not the model" not in text or "again" in text for text in answer.limitations)
    assert not any(text.startswith("No model was compared") for text in answer.limitations)


def test_a_report_vouches_for_its_verdict_without_its_files(signed: a.Signed) -> None:
    for path in (signed.result, signed.html, signed.svr):
        path.unlink()
    answer = check_report(signed.report, keys=[signed.verifier.public])
    assert answer.verdict == "PASS"
    skipped = {check.id for check in answer.checks if check.status == "skipped"}
    assert skipped == {"MV606", "MV607", "MV608", "MV609", "MV610", "MV611"}
    assert any(text.startswith("No model was compared") for text in answer.limitations)


def test_files_that_lie_elsewhere_are_known_by_their_digest(signed: a.Signed, tmp_path: Path) -> None:
    result, html = signed.result.rename(tmp_path / "archived"), signed.html.rename(tmp_path / "page")
    found = statuses(signed, results=[html, result])
    assert {found[check_id] for check_id in ("MV606", "MV607", "MV608")} == {"pass"}
    found = statuses(signed, results=[html])
    assert (found["MV606"], found["MV608"]) == ("skipped", "pass")


def test_a_result_of_a_later_verifier_with_more_fields_is_read(signed: a.Signed) -> None:
    value = json.loads(signed.result.read_text())
    value["later"] = {"more": [1]}
    value["policy"]["later"] = 2
    a.bind(signed, signed.result, json.dumps(value).encode())
    assert statuses(signed)["MV607"] == "pass"


def test_without_a_key_nothing_is_vouched_for(signed: a.Signed) -> None:
    answer = check_report(signed.report, keys=[])
    assert (answer.verdict, answer.exit_code, answer.authentic, answer.report) == ("UNDECIDED", 3, None, None)
    signed.result.write_text("{}")
    answer = check_report(signed.report, keys=[])
    assert (answer.verdict, answer.exit_code) == ("FAIL", 1)


def test_an_authentic_report_has_the_exit_code_of_its_verdict(signed: a.Signed, certificate: c.Certificate) -> None:
    assert a.sign(signed) == 3
    answer = check_report(signed.report, keys=[signed.verifier.public])
    assert (answer.verdict, answer.exit_code, answer.authentic) == ("UNDECIDED", 3, True)
    certificate.ledger.unlink()
    spoiled = a.Signed(signed.folder, certificate, signed.verifier)
    assert a.sign(spoiled, "--key", certificate.keys.public) == 1
    answer = check_report(signed.report, keys=[signed.verifier.public])
    assert (answer.verdict, answer.exit_code, answer.authentic) == ("FAIL", 1, True)
    assert answer.report is not None
    assert answer.headline.endswith("the certificate was refused.")


def test_a_certificate_of_which_nothing_can_be_read_is_refused_in_writing(
    signed: a.Signed, certificate: c.Certificate
) -> None:
    certificate.manifest.write_bytes(b"{}")
    assert a.sign(a.Signed(signed.folder, certificate, signed.verifier), "--key", certificate.keys.public) == 1
    found = statuses(signed, manifest=certificate.manifest)
    assert (found["MV605"], found["MV607"], found["MV610"]) == ("pass", "pass", "pass")
    assert statuses(signed, model=certificate.model)["MV611"] == "fail"  # the report names no model


def test_paths_that_do_not_exist_are_wrong_usage(signed: a.Signed, tmp_path: Path) -> None:
    none = tmp_path / "none"
    for given in ({"results": [none]}, {"model": none}, {"manifest": none}, {"model": signed.result}):
        with pytest.raises(UsageError):
            statuses(signed, **given)
    shutil.rmtree(signed.folder)
    with pytest.raises(UsageError):
        statuses(signed)


def test_only_a_complete_authentic_report_passes() -> None:
    checks = [record(check_id, "pass", "e", "f") for check_id in REPORT_CATALOGUE]
    assert verdict(completed(checks), "PASS") == "PASS"
    assert verdict(completed(checks), None) == "UNDECIDED"
    for index, check in enumerate(checks):
        rest = checks[:index] + checks[index + 1 :]
        left_out = verdict(completed(rest), "PASS")
        assert left_out == ("UNDECIDED" if check.id <= "MV605" else "PASS")
        assert verdict(completed([*rest, record(check.id, "fail", "e", "f")]), "PASS") == "FAIL"
        assert verdict(completed([*rest, record(check.id, "undecided", "e", "f")]), "PASS") == "UNDECIDED"


def test_ids_of_reports_are_no_part_of_a_certificates_result() -> None:
    assert not REPORT_CATALOGUE.keys() & CATALOGUE.keys()
    assert all("PASS" not in title for _, title in REPORT_CATALOGUE.values())


def test_the_admission_controller_of_the_documentation(signed: a.Signed, certificate: c.Certificate) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "reports.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    defined: dict[str, Any] = {}
    exec(compile(code, "docs/reports.md", "exec"), defined)
    admitted, model, key = defined["admitted"], certificate.out / "model", signed.verifier.public
    assert admitted(model, signed.svr, key, {"MANSU_STATIC"})
    assert not admitted(model, signed.svr, key, {"MANSU_FULL"})
    assert not admitted(model, signed.report, key, set())
    with pytest.raises(VerificationError):
        admitted(model, signed.svr, signed.certificate.keys.public, set())
    (model / "modeling.py").write_text("")
    assert not admitted(model, signed.svr, key, {"MANSU_STATIC"})


def test_every_id_is_in_the_documentation() -> None:
    text = (DOCS / "reports.md").read_text(encoding="utf-8")
    assert set(re.findall(r"MV6\d\d", text)) == REPORT_CATALOGUE.keys()


def test_checking_a_report_loads_nothing_heavy(signed: a.Signed) -> None:
    code = (
        "import sys, verify.cli\n"
        f"try: verify.cli.main(['--check-report', {str(signed.report)!r}, '--key', {str(signed.verifier.public)!r}])\n"
        "except SystemExit as end: print(end.code == 0, {'torch', 'transformers'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("True set()\n")


if __name__ == "__main__":
    (GOLDEN / "attestations.json").write_text(json.dumps(golden(), indent=2) + "\n", encoding="utf-8")
