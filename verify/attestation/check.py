"""One call: a report, the verifier's keys and files to compare in; an answer out. The model is not examined again."""

import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact import fingerprint, load_public, read_regular
from verify.artefact.attestation import read_attestation
from verify.artefact.envelope import MAX_BYTES
from verify.attestation import files
from verify.attestation.answers import authentic, completed, record, refused, verdict
from verify.attestation.checks import consistency, signature
from verify.attestation.names import svr_path
from verify.contract.result import Verdict, exit_code
from verify.contract.verification import ReportAnswer, ReportCheck, VerificationStatement
from verify.errors import ArtefactError, UsageError

NOT_AGAIN = "This checked a signed report and not the model again: nothing was measured, no weight was examined."
LIMITATIONS = (
    "A report is as good as its verifier: whoever holds that key can sign any verdict.",
    "The time in it is the verifier's own clock; no third party vouches for it.",
)
NOT_COMPARED = "No model was compared with the report: name the model's folder to know that it is the one verified."


def check_report(
    report: Path,
    *,
    keys: Sequence[Path],
    results: Sequence[Path] = (),
    model: Path | None = None,
    manifest: Path | None = None,
) -> ReportAnswer:
    """Check a verifier's signed report, and whatever of its files is beside it or named; refusal is an answer too.

    `keys` are paths of public keys of verifiers the user trusts; `results` are result.json or other reports that lie
    elsewhere. Raises UsageError for paths that do not exist and keys that cannot be read.
    """
    _require_present(report, results, model, manifest)
    trusted = [load_public(path) for path in keys]
    checks: list[ReportCheck] = []
    statement, signer, digest = None, None, None
    try:
        data = _read(report)
        digest = hashlib.sha256(data).hexdigest()
        checks.append(record("MV601", "pass", "a regular file, read once", f"{len(data)} bytes"))
        statement = read_attestation(data, VerificationStatement)
        checks.append(record("MV602", "pass", "one strict reading", "one strict reading"))
        checks.append(record("MV604", "pass", statement.predicateType, statement.predicateType))
        check, signer = signature(data, trusted)
        checks.append(check)
        if check.status != "fail":
            checks.append(consistency(statement))
        if checks[-1].status != "fail":  # nothing is compared with what a stranger wrote, or with what makes no sense
            signers = [key for key in trusted if fingerprint(key) == signer]
            checks += _compared(statement, report, signers, results, model, manifest)
    except ArtefactError as error:
        checks.append(refused(error))
    return _answer(completed(checks), statement, signer, digest, compared=model is not None)


def _require_present(report: Path, results: Sequence[Path], model: Path | None, manifest: Path | None) -> None:
    """Raise UsageError for a path that does not exist, and for a model that is neither a folder nor a weight file."""
    for path in (report, *results, *(path for path in (model, manifest) if path is not None)):
        if not os.path.lexists(path):
            raise UsageError(f"there is no {path}", remedy="check the path")
    if model is not None and not model.is_dir() and not model.name.endswith((".safetensors", ".index.json")):
        remedy = "give a model folder, a .safetensors file or its .index.json"
        raise UsageError(f"{model} is not a model", found=model.name, remedy=remedy)


def _read(report: Path) -> bytes:
    """MV601: the report is a regular file of a size that a report can have."""
    try:
        return read_regular(report.name, root=report.parent, limit=MAX_BYTES)
    except ArtefactError as error:
        message, expected, found = error.message, error.expected, error.found
        raise ArtefactError("MV601", message, expected=expected, found=found, remedy=error.remedy) from error


def _compared(
    statement: VerificationStatement,
    report: Path,
    signers: Sequence[ec.EllipticCurvePublicKey],
    results: Sequence[Path],
    model: Path | None,
    manifest: Path | None,
) -> list[ReportCheck]:
    given = files.gather(statement.predicate, report.parent, results)
    checks = [*files.result_files(statement, given), files.other_reports(statement.predicate, given)]
    checks.append(files.svr(statement, svr_path(report), signers))
    absent = "not given"
    checks.append(
        record("MV610", "skipped", "", absent)
        if manifest is None
        else files.manifest_file(statement.predicate, manifest, signers)
    )
    checks.append(record("MV611", "skipped", "", absent) if model is None else files.model_files(statement, model))
    return checks


def _answer(
    checks: Sequence[ReportCheck],
    statement: VerificationStatement | None,
    signer: str | None,
    digest: str | None,
    *,
    compared: bool,
) -> ReportAnswer:
    genuine = authentic(checks)
    answer = verdict(checks, statement.predicate.verdict if statement and genuine else None)
    holds = genuine is True and all(check.status in {"pass", "skipped"} for check in checks)
    shown_report = statement if holds else None
    return ReportAnswer(
        verifier=f"mansu-verify {version('mansu')}",
        verdict=answer,
        exit_code=exit_code(answer),
        headline=_headline(checks, shown_report),
        authentic=genuine,
        signer=signer,
        report_sha256=digest,
        checks=tuple(checks),
        limitations=(NOT_AGAIN, *(() if compared else (NOT_COMPARED,)), *LIMITATIONS),
        report=shown_report,
    )


def _headline(checks: Sequence[ReportCheck], report: VerificationStatement | None) -> str:
    if report is not None:
        said = report.predicate
        outcome: dict[Verdict, str] = {
            "PASS": "the certificate held",
            "FAIL": "the certificate was refused",
            "UNDECIDED": "the certificate could not be decided",
        }
        return f"The report is authentic: at {said.timeVerified}, {said.level} checks, {outcome[said.verdict]}."
    openings = {"fail": "The report is refused: {}. This does not hold", "undecided": "Could not decide: {}"}
    for status, opening in openings.items():
        for check in checks:
            if check.status == status:
                title = check.title[0].lower() + check.title[1:]
                return f"{opening.format(check.id)}: {title}. Found: {check.found}."
    raise AssertionError("a report that is neither shown nor refused nor open")
