"""What is signed: a report of any result, and an SVR of a report that passed. Plain functions of data."""

from collections.abc import Mapping, Sequence

from verify.checks.evidence import MODEL
from verify.contract.manifest import STATEMENT_TYPE, Digest, Subject
from verify.contract.result import Result
from verify.contract.verification import (
    REFUSED_LEVELS,
    SVR_TYPE,
    VERIFICATION_TYPE,
    VERIFIER_ID,
    BoundFile,
    InputAttestation,
    PolicyReference,
    Svr,
    SvrStatement,
    SvrVerifier,
    Verification,
    VerificationStatement,
    Verifier,
)

MANIFEST = "m.json"
"""The name that the manifest has in a report, whatever its file was called."""
PINNED = "MANSU_BASE_PINNED"


def report_statement(
    result: Result, written: BoundFile, reports: Sequence[BoundFile], *, versions: Mapping[str, str]
) -> VerificationStatement:
    """Return the report on a result; `written` is the result's own file, `versions` those of the platform's parts.

    Subjects are the files that were read, with the digests found. Where none could be read it is the manifest, and
    where not even that, the result itself: a refusal is signed too, and in-toto knows no statement about nothing.
    """
    subjects = [_subject(file.name, file.sha256) for file in result.files]
    manifest = result.manifest_sha256
    if not subjects:
        subjects = [_subject(MANIFEST, manifest) if manifest else _subject(written.name, written.digest.sha256)]
    return VerificationStatement(
        _type=STATEMENT_TYPE,
        predicateType=VERIFICATION_TYPE,
        subject=tuple(subjects),
        predicate=Verification(
            verifier=Verifier(id=VERIFIER_ID, version=dict(versions)),
            timeVerified=result.timing.started,
            resourceUri=resource_uri(manifest),
            policy=PolicyReference(uri=policy_uri(result.policy_sha256), digest=Digest(sha256=result.policy_sha256)),
            inputAttestations=_inputs(manifest),
            verificationResult="PASSED" if result.verdict == "PASS" else "FAILED",
            verifiedLevels=levels(result.level) if result.verdict == "PASS" else REFUSED_LEVELS,
            verdict=result.verdict,
            level=result.level,
            exitCode=result.exit_code,
            baseDigest=result.trust.base_digest,
            producerKey=result.trust.key_fingerprint if result.trust.signature == "valid" else None,
            result=written,
            reports=tuple(reports),
        ),
    )


def svr_statement(report: VerificationStatement) -> SvrStatement:
    """Return the SVR of a report, which is all in the report: two runs of this give equal statements.

    Raises ValueError for a report that did not pass or names no file of a model: neither has an SVR.
    """
    said = report.predicate
    subjects = tuple(subject for subject in report.subject if subject.name.startswith(MODEL))
    if said.verdict != "PASS" or said.verificationResult != "PASSED" or not subjects:
        raise ValueError("only a report that passed has an SVR")
    properties = ["MANSU_STATIC", *levels(said.level)]  # every level holds the static checks
    if said.baseDigest == "pinned by the user":
        properties.append(PINNED)
    return SvrStatement(
        _type=STATEMENT_TYPE,
        predicateType=SVR_TYPE,
        subject=subjects,
        predicate=Svr(
            verifier=SvrVerifier(id=VERIFIER_ID, policy=said.policy),
            timeCreated=said.timeVerified,
            properties=tuple(dict.fromkeys(properties)),
        ),
    )


def levels(level: str) -> tuple[str, ...]:
    """Return SLSA's `verifiedLevels` of a level that passed: the highest one alone."""
    return (f"MANSU_{level.upper().replace('-', '_')}",)


def resource_uri(manifest_sha256: str | None) -> str:
    """Return the name of a certificate; the files lie wherever they are copied to, so it is no address."""
    return f"urn:mansu:certificate:sha256:{manifest_sha256}" if manifest_sha256 else "urn:mansu:certificate:unreadable"


def policy_uri(sha256: str) -> str:
    """Return the name of a policy."""
    return f"urn:mansu:policy:sha256:{sha256}"


def _inputs(manifest: str | None) -> tuple[InputAttestation, ...]:
    return (InputAttestation(name=MANIFEST, digest=Digest(sha256=manifest)),) if manifest else ()


def _subject(name: str, sha256: str) -> Subject:
    return Subject(name=name, digest=Digest(sha256=sha256))
