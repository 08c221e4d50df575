"""What a verifier wrote or is about to check, read back: a result, and a manifest that nobody has verified."""

from os import PathLike
from pathlib import Path

from pydantic import ValidationError

from verify.artefact import read_regular, read_unverified, shown, strict_json
from verify.artefact.envelope import MAX_BYTES
from verify.artefact.named import read_named
from verify.checks.verdict import verdict
from verify.contract.manifest import Statement
from verify.contract.result import RESULT_SCHEMA, Result, exit_code
from verify.errors import ArtefactError, UsageError

LARGEST_RESULT = 64 * 1024 * 1024
"""Bytes of a result.json that is read."""
_ERROR = "ME310"
_GROUPS = {
    "static": {"integrity", "permanence"},
    "full": {"integrity", "permanence", "forgetting", "retention", "erasure"},
}
"""Groups of which a pass of a level needs a check that holds."""
_REMEDY = "give a result.json of this version: mansu-verify ... --report json=result.json"


def load_result(path: str | PathLike[str]) -> Result:
    """Read a result.json strictly. Nothing is checked again, and nobody's signature (`mansu-verify --check-report`).

    Raises UsageError ME310 for a file that cannot be read, has more than one reading, is no result of this version, or
    whose verdict is not the one that its own checks and exit code come to.
    """
    return parse_result(read_named(Path(path), what="result", limit=LARGEST_RESULT, error_id=_ERROR), str(path))


def parse_result(data: bytes, name: str) -> Result:
    """Return the result that bytes are; `name` stands for them in errors, which are those of `load_result`."""
    try:
        value = strict_json(data, check_id=_ERROR, name=name, max_bytes=LARGEST_RESULT)
        found = value.get("schema_") if isinstance(value, dict) else value
        if found != RESULT_SCHEMA:
            raise _refused(f"{name} is no result", RESULT_SCHEMA, shown(found))
        result = Result.model_validate_json(data)
    except ArtefactError as error:
        raise _refused(error.message, error.expected, error.found) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = shown(".".join(map(str, first["loc"])))
        raise _refused(f"{name}: {where}", "a result as spec/result.md says", first["msg"]) from error
    _require_verdict(result, name)
    return result


def show(manifest: str | PathLike[str]) -> Statement:
    """Return a manifest's statement, decoded and UNVERIFIED: no signature and no file is checked.

    Raises UsageError for a path where no file is, ArtefactError MV102 for one that is no manifest.
    """
    path = Path(manifest)
    if not path.is_file():
        raise UsageError(f"there is no manifest at {path}", remedy="give the certificate's m.json")
    return read_unverified(read_regular(path.name, root=path.parent, limit=MAX_BYTES), certificates=True)


def _require_verdict(result: Result, name: str) -> None:
    """Refuse a verdict that contradicts the result's own checks: a file edited by hand, or half of one.

    A check of the level that was skipped is no pass, and neither is a level whose groups were not all looked at.
    """
    statuses = {check.status for check in result.checks}
    once = len({check.id for check in result.checks}) == len(result.checks)
    held = {check.group for check in result.checks if check.status == "pass"}
    wanted = _GROUPS["static" if result.level == "static" else "full"] | ({"deployed"} if result.deployed else set())
    whole = result.verdict != "PASS" or (wanted <= held and ("deployed" in held) == (result.deployed is not None))
    follows = bool(statuses) and once and whole and verdict(result.checks, result.level) == result.verdict
    if not follows or result.exit_code != exit_code(result.verdict):
        found = f"{result.verdict}, exit code {result.exit_code}, checks {', '.join(sorted(statuses)) or 'none'}"
        raise _refused(f"{name} contradicts itself", "the verdict that its checks come to", found)


def _refused(message: str, expected: str, found: str) -> UsageError:
    return UsageError(message, expected=expected, found=found, remedy=_REMEDY, error_id=_ERROR)
