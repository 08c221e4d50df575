# ruff: noqa: N815  (the spelling of in-toto and SLSA)
"""What the verifier signs: its report on a certificate, and on PASS a Simple Verification Result (docs/reports.md).

The report's predicate has the fields of SLSA's Verification Summary Attestation v1.2 with their meaning, and ours
beside them. It is of a type of its own, because a VSA speaks of SLSA levels and knows no third verdict.
The SVR is in-toto's own type, v0.1, for admission controllers that know nothing of mansu.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from verify.contract.manifest import Digest, Subject
from verify.contract.result import BaseTrust, Level, Verdict
from verify.contract.schema import FileDigest, Schema, Sha256

VERIFICATION_TYPE: Final = "urn:mansu:verification/v1"
SVR_TYPE: Final = "https://in-toto.io/attestation/svr/v0.1"
VERIFIER_ID: Final = "urn:mansu:verifier/v1"
"""Our verifier's identity; its number goes up when what a verdict means changes."""
REFUSED_LEVELS: Final = ("FAILED",)
"""SLSA's `verifiedLevels` of whatever is not passed."""


def _require_time(text: str) -> str:
    datetime.fromisoformat(text)  # raises ValueError: there is no thirteenth month
    return text


Timestamp = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_require_time),
]
"""A time in UTC to the second, in the form of RFC 3339."""


class Verifier(Schema):
    """Who verified: `version` maps the parts of the platform (Python packages) to their versions."""

    id: Literal["urn:mansu:verifier/v1"]
    version: dict[str, str]


class PolicyReference(Schema):
    """The policy that was applied. The digest is that of `policy_sha256` in the result."""

    uri: str
    digest: Digest


class InputAttestation(Schema):
    """A signed statement that the verifier read: the certificate's manifest, by the sha256 of its file."""

    name: str
    digest: Digest


class BoundFile(Schema):
    """A file that the verifier wrote, bound by its exact bytes; `name` is without folder, for the set can be moved."""

    name: str
    mediaType: str
    digest: Digest


class Verification(Schema):
    """The report's predicate, version 1.

    From `verifier` to `verifiedLevels`: as in SLSA's VSA. `producerKey` is the fingerprint of the key that signed the
    manifest, if its signature was valid. `result` is the whole result, which says everything else.
    """

    verifier: Verifier
    timeVerified: Timestamp
    resourceUri: str
    policy: PolicyReference
    inputAttestations: tuple[InputAttestation, ...] = Field(max_length=1)
    verificationResult: Literal["PASSED", "FAILED"]
    verifiedLevels: tuple[str, ...] = Field(min_length=1)
    verdict: Verdict
    level: Level
    exitCode: int
    baseDigest: BaseTrust
    producerKey: Sha256 | None
    result: BoundFile
    reports: tuple[BoundFile, ...]


class VerificationStatement(Schema):
    """The in-toto statement of a report: its subjects are the files that were verified, with the digests found."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["urn:mansu:verification/v1"]
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate: Verification


class SvrVerifier(Schema):
    """SVR's verifier, with the policy as the extension field that the specification shows."""

    id: Literal["urn:mansu:verifier/v1"]
    policy: PolicyReference


class Svr(Schema):
    """The predicate of a Simple Verification Result v0.1: which properties held, and when."""

    verifier: SvrVerifier
    timeCreated: Timestamp
    properties: tuple[str, ...] = Field(min_length=1)


class SvrStatement(Schema):
    """The in-toto statement of an SVR: its subjects are the model's files, and nothing that is not deployed."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["https://in-toto.io/attestation/svr/v0.1"]
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate: Svr


class ReportCheck(Schema):
    """One check of a report: as `CheckResult`, of a group of its own."""

    id: str
    group: Literal["report"] = "report"
    title: str
    status: Literal["pass", "fail", "undecided", "skipped"]
    expected: str
    found: str
    remedy: str = ""


class ReportAnswer(Schema):
    """What `--check-report` says. `verdict` is PASS only for an authentic report whose own verdict is PASS.

    `authentic` is None when no key was given. `report` is shown only when no check failed and none is undecided.
    """

    schema_: Literal["urn:mansu:report-check/v1"] = "urn:mansu:report-check/v1"
    verifier: str
    verdict: Verdict
    exit_code: int
    headline: str
    authentic: bool | None
    signer: Sha256 | None
    report_sha256: Sha256 | None
    checks: tuple[ReportCheck, ...]
    limitations: tuple[str, ...]
    report: VerificationStatement | None


class _Trust(Schema):
    model_config = ConfigDict(extra="ignore")

    key_fingerprint: Sha256 | None
    signature: Literal["valid", "not checked", "invalid"]
    base_digest: str


class _Timing(Schema):
    model_config = ConfigDict(extra="ignore")

    started: str


class ResultSummary(Schema):
    """The fields of a `result.json` of schema v1 that a report repeats.

    Other fields are ignored, so that results of older and newer verifiers can be read. That cannot turn a refusal into
    a pass: it is only read from bytes whose digest the verifier signed.
    """

    model_config = ConfigDict(extra="ignore")

    schema_: Literal["urn:mansu:result/v1"]
    verifier: str
    verdict: Verdict
    exit_code: int
    level: str
    policy_sha256: Sha256
    manifest_sha256: Sha256 | None
    files: tuple[FileDigest, ...]
    trust: _Trust
    timing: _Timing
