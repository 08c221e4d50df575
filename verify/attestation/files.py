"""A report against files, MV606 to MV611: result.json, the other reports, the SVR, the manifest, the model.

Files that are not there are said to be absent, which is no refusal: the report vouches for its verdict by itself. Only
files that are there, or that the user names, can differ.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from verify.artefact import fingerprint, open_regular, read_regular, shown, strict_json, walk
from verify.artefact.attestation import unseal_attestation
from verify.artefact.bundle import signed_by
from verify.artefact.envelope import MAX_BYTES
from verify.attestation.answers import decided, record, refused
from verify.attestation.statements import svr_statement
from verify.checks.evidence import MODEL, abbreviated
from verify.contract.verification import (
    ReportCheck,
    ResultSummary,
    SvrStatement,
    Verification,
    VerificationStatement,
)
from verify.errors import ArtefactError, UsageError

LARGEST_RESULT = 64 * 1024 * 1024
"""Bytes of a result.json that are read."""
_STALE = "remove the SVR: whoever admits models by it would be misled"


@dataclass(frozen=True)
class Given:
    """The files to compare with: those named by the user and those beside the report, sorted by what they should be.

    `reports` maps each file to the name of the report that it should be; `absent` are reports with no file.
    """

    results: tuple[Path, ...]
    reports: Mapping[Path, str]
    absent: tuple[str, ...]


def gather(said: Verification, folder: Path, named: Sequence[Path]) -> Given:
    """Sort the files named by the user by digest, else by name, and add what lies beside the report.

    Raises UsageError for a named file that does not exist.
    """
    by_digest = {file.digest.sha256: file.name for file in (*said.reports, said.result)}
    names = {file.name for file in said.reports}
    results: list[Path] = []
    reports: dict[Path, str] = {}
    for path in named:
        if not os.path.lexists(path):
            raise UsageError(f"there is no file {path}", remedy="give result.json or a report with --result")
        name = by_digest.get(_digest_or_none(path) or "", path.name)
        if name in names:
            reports[path] = name
        else:
            results.append(path)
    if not results and os.path.lexists(folder / said.result.name):
        results.append(folder / said.result.name)
    beside = [name for name in sorted(names - set(reports.values())) if os.path.lexists(folder / name)]
    reports |= {folder / name: name for name in beside}
    return Given(tuple(results), reports, tuple(sorted(names - set(reports.values()))))


def result_files(report: VerificationStatement, given: Given) -> list[ReportCheck]:
    """MV606: result.json has the digest signed. Then MV607."""
    said = report.predicate
    expected = f"a file of digest {said.result.digest.sha256}"
    if not given.results:
        found = f"{shown(said.result.name)} is not beside the report; --result names it elsewhere"
        return [record(check_id, "skipped", expected, found) for check_id in ("MV606", "MV607")]
    content = b""
    for path in given.results:
        try:
            content = read_regular(path.name, root=path.parent, limit=LARGEST_RESULT)
        except ArtefactError as error:
            return [refused(error, "MV606")]
        digest = hashlib.sha256(content).hexdigest()
        if digest != said.result.digest.sha256:
            return [decided("MV606", expected, f"{shown(path.name)} has {digest}", holds=False)]
    found = f"{shown(given.results[0].name)}, as signed"
    return [record("MV606", "pass", expected, found), result_content(report, content)]


def result_content(report: VerificationStatement, content: bytes) -> ReportCheck:
    """MV607: result.json, whose bytes are bound, has the verdict, digests and time that the report repeats."""
    expected = "the verdict, level, digests, key, time and files of the report"
    try:
        value = strict_json(content, check_id="MV607", name="result.json", max_bytes=LARGEST_RESULT)
        if not isinstance(value, dict) or value.get("schema_") != "urn:mansu:result/v1":
            schema = shown(value.get("schema_") if isinstance(value, dict) else value)
            return decided("MV607", "a result of schema urn:mansu:result/v1", schema, holds=False)
        summary = ResultSummary.model_validate_json(content)
    except ArtefactError as error:
        return refused(error)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return decided("MV607", expected, f"no such field: {shown(first['loc'])}", holds=False)
    wrong = ", ".join(_differences(report, summary))
    return decided("MV607", expected, f"other values of {wrong}" if wrong else "the same", holds=not wrong)


def _differences(report: VerificationStatement, summary: ResultSummary) -> list[str]:
    said = report.predicate
    files = {subject.name: subject.digest.sha256 for subject in report.subject}
    manifest = said.inputAttestations[0].digest.sha256 if said.inputAttestations else None
    producer = summary.trust.key_fingerprint if summary.trust.signature == "valid" else None
    same = {
        "verdict": summary.verdict == said.verdict,
        "exit_code": summary.exit_code == said.exitCode,
        "level": summary.level == said.level,
        "policy_sha256": summary.policy_sha256 == said.policy.digest.sha256,
        "manifest_sha256": summary.manifest_sha256 == manifest,
        "key_fingerprint": producer == said.producerKey,
        "base_digest": summary.trust.base_digest == said.baseDigest,
        "started": summary.timing.started == said.timeVerified,
        # where no file could be read, the subject stands for the certificate and is none of its files
        "files": not summary.files or {file.name: file.sha256 for file in summary.files} == files,
    }
    return [what for what, equal in same.items() if not equal]


def other_reports(said: Verification, given: Given) -> ReportCheck:
    """MV608: every other report that is there has the digest signed."""
    digests = {file.name: file.digest.sha256 for file in said.reports}
    expected = f"the {len(digests)} other reports, with the digests signed"
    absent = f"; not here: {abbreviated(list(given.absent))}" if given.absent else ""
    if not given.reports:
        return record("MV608", "skipped", expected, f"none to compare{absent}")
    try:
        changed = [
            path.name for path, name in given.reports.items() if file_sha256(path.name, path.parent) != digests[name]
        ]
    except ArtefactError as error:
        return refused(error, "MV608")
    found = f"changed: {abbreviated(changed)}" if changed else f"{len(given.reports)} as signed{absent}"
    return decided("MV608", expected, found, holds=not changed)


def svr(report: VerificationStatement, path: Path, keys: Sequence[ec.EllipticCurvePublicKey]) -> ReportCheck:
    """MV609: an SVR that lies beside the report is the one that follows from it, signed by the same verifier."""
    expected = "the SVR that follows from this report, or none"
    if not os.path.lexists(path):
        return record("MV609", "skipped", expected, f"there is no {shown(path.name)}")
    if report.predicate.verdict != "PASS":
        found = f"{shown(path.name)} lies beside a report that has none"
        return decided("MV609", expected, found, holds=False, remedy=_STALE)
    if not keys:
        return record("MV609", "undecided", expected, "no key was given", "give the verifier's public key with --key")
    try:
        statement = unseal_attestation(
            read_regular(path.name, root=path.parent, limit=LARGEST_RESULT), keys, SvrStatement
        ).statement
    except ArtefactError as error:
        return refused(error, "MV609")
    holds = statement == svr_statement(report)
    found = "the same verifier, time, policy and model" if holds else "another verifier, time, policy or model"
    return decided("MV609", expected, found, holds=holds, remedy=_STALE)


def manifest_file(said: Verification, path: Path, keys: Sequence[ec.EllipticCurvePublicKey]) -> ReportCheck:
    """MV610: the manifest given is the one that the verifier read, and not signed by `keys`, the signers of the report.

    MV603 compares with the producer's key by the report's own word, which a producer who reports on itself can falsify.
    """
    digests = [entry.digest.sha256 for entry in said.inputAttestations]
    expected = f"a manifest of digest {digests[0]}" if digests else "a manifest, but the verifier could read none"
    try:
        data = read_regular(path.name, root=path.parent, limit=MAX_BYTES)
    except ArtefactError as error:
        return refused(error, "MV610")
    own = next((fingerprint(key) for key in keys if signed_by(data, key)), None)
    if own is not None:
        found = f"{shown(path.name)} is signed by {own}, as the report is"
        return decided("MV610", "a manifest of somebody else's", found, holds=False)
    found = hashlib.sha256(data).hexdigest()
    return decided("MV610", expected, f"{shown(path.name)} has {found}", holds=[found] == digests)


def model_files(report: VerificationStatement, model: Path) -> ReportCheck:
    """MV611: the model's folder holds exactly the model files that were verified, and no other."""
    listed = {
        subject.name.removeprefix(MODEL): subject.digest.sha256
        for subject in report.subject
        if subject.name.startswith(MODEL)
    }
    folder = model if model.is_dir() else model.parent
    expected = f"the {len(listed)} files of the model verified, with their digests, and no other"
    try:
        present = walk(folder)
        changed = [name for name in present if name in listed and file_sha256(name, folder) != listed[name]]
    except ArtefactError as error:
        return refused(error, "MV611")
    missing, extra = sorted(listed.keys() - set(present)), sorted(set(present) - listed.keys())
    parts = (("changed", changed), ("missing", missing), ("not in the report", extra))
    wrong = "; ".join(f"{what}: {abbreviated(names)}" for what, names in parts if names)
    holds = bool(listed) and not wrong
    found = wrong or (f"{len(listed)} files, every digest as verified" if listed else "the report names none")
    remedy = "this report is about another model: verify this one itself, with its own manifest"
    return decided("MV611", expected, found, holds=holds, remedy=remedy)


def file_sha256(name: str, root: Path) -> str:
    """Return the digest of a regular file below `root`, read in pieces; ArtefactError MV101 for anything else."""
    with open_regular(name, root=root) as file:
        digest = file.sha256()
        file.require_same_size()
    return digest


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path.name, path.parent)
    except ArtefactError:
        return None
