"""Running a test vector through the verifier, as its expect.json says."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from verify.artefact.anchors import AnchorFiles
from verify.artefact.policy_file import read_policy
from verify.check import check
from verify.contract.policy import Policy
from verify.contract.result import Result

VECTOR_SCHEMA = "urn:mansu:vector/v1"


class Expected(BaseModel):
    """expect.json (spec/vectors/README.md); paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["urn:mansu:vector/v1"]
    about: str
    since: str
    level: Literal["static"]
    model: str
    manifest: str
    keys: tuple[str, ...]
    base_digests: dict[str, str]
    policy: str | None
    cert_roots: tuple[str, ...]
    cert_identity: str | None
    verdict: str
    exit_code: int
    failed: tuple[str, ...]
    passed: tuple[str, ...]


def expected_of(vector: Path) -> Expected:
    return Expected.model_validate_json((vector / "expect.json").read_bytes())


def ask(vector: Path, expected: Expected) -> Result:
    """Check a vector's certificate with what its expect.json gives."""
    anchors = AnchorFiles(
        keys=tuple(vector / path for path in expected.keys),
        cert_roots=tuple(vector / path for path in expected.cert_roots),
        cert_identity=expected.cert_identity,
        base_digests=expected.base_digests,
    )
    policy_path = None if expected.policy is None else vector / expected.policy
    return check(
        vector / expected.model,
        vector / expected.manifest,
        anchors=anchors,
        level=expected.level,
        policy=Policy() if policy_path is None else read_policy(policy_path),
        policy_path=policy_path,
    )


def words(vector: Path, expected: Expected) -> list[str]:
    """Return the arguments of `mansu-verify` that do the same."""
    options: list[tuple[str, str | Path | None]] = [("--key", vector / path) for path in expected.keys]
    options += [("--base-digest", f"{name}={digest}") for name, digest in expected.base_digests.items()]
    options += [("--cert-root", vector / path) for path in expected.cert_roots]
    options += [("--cert-identity", expected.cert_identity)]
    options += [("--policy", None if expected.policy is None else vector / expected.policy)]
    given = [word for option, value in options if value is not None for word in (option, str(value))]
    return [str(vector / expected.model), "--manifest", str(vector / expected.manifest), *given, "--checks", "static"]
