"""What makes a report authentic: MV603, its signature, and MV605, its agreement with itself.

`found` never repeats a verdict: what is refused must not show the word that a pipeline might look for.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact.attestation import unseal_attestation
from verify.attestation.answers import decided, record, refused
from verify.attestation.statements import levels, policy_uri, resource_uri
from verify.checks.evidence import MODEL
from verify.contract.result import exit_code
from verify.contract.verification import REFUSED_LEVELS, ReportCheck, VerificationStatement
from verify.errors import ArtefactError


def signature(data: bytes, keys: Sequence[ec.EllipticCurvePublicKey]) -> tuple[ReportCheck, str | None]:
    """MV603: one of the given keys signed the report, and it is not the key of the certificate's producer.

    Returns the check and the fingerprint of the key that signed. Without a key it stays undecided.
    """
    expected = "one ECDSA P-256 signature by a key the user gave, which is not the producer's"
    if not keys:
        remedy = "give the verifier's public key with --key, obtained from the verifier and not with the report"
        return record("MV603", "undecided", expected, "no key was given, so nobody vouches for it", remedy), None
    try:
        opened = unseal_attestation(data, keys, VerificationStatement)
    except ArtefactError as error:
        return refused(error), None
    if opened.key_fingerprint == opened.statement.predicate.producerKey:
        remedy = "ask a verifier for a report: nobody can vouch for a certificate of their own"
        found = f"signed by {opened.key_fingerprint}, which signed the certificate too"
        return decided("MV603", expected, found, holds=False, remedy=remedy), None
    return record("MV603", "pass", expected, f"signed by {opened.key_fingerprint}"), opened.key_fingerprint


def consistency(report: VerificationStatement) -> ReportCheck:
    """MV605: verdict, exit code, levels, names and digests in the report agree with each other."""
    wrong = ", ".join(_contradictions(report))
    expected = "fields that agree with each other"
    return decided("MV605", expected, f"at odds: {wrong}" if wrong else "they agree", holds=not wrong)


def _contradictions(report: VerificationStatement) -> list[str]:
    said = report.predicate
    passed = said.verdict == "PASS"
    manifest = said.inputAttestations[0].digest.sha256 if said.inputAttestations else None
    names = [said.result.name, *(file.name for file in said.reports)]
    holds = {
        "verdict and exitCode": said.exitCode == exit_code(said.verdict),
        "verdict and verificationResult": (said.verificationResult == "PASSED") is passed,
        "verdict and verifiedLevels": said.verifiedLevels == (levels(said.level) if passed else REFUSED_LEVELS),
        "verdict and inputs": not passed or (manifest is not None and said.producerKey is not None),
        "verdict and baseDigest": not passed or said.baseDigest != "not established",
        "verdict and subjects": not passed or any(subject.name.startswith(MODEL) for subject in report.subject),
        "policy": said.policy.uri == policy_uri(said.policy.digest.sha256),
        "resourceUri and inputs": said.resourceUri == resource_uri(manifest),
        "names of the reports": len(set(names)) == len(names) and all(_is_plain(name) for name in names),
    }
    return [what for what, agrees in holds.items() if not agrees]


def _is_plain(name: str) -> bool:
    """Tell whether a name is one of a file in the report's own folder."""
    return name.isprintable() and name not in {"", ".", ".."} and not {"/", "\\", ":"} & set(name)
