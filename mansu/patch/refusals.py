"""What does not fit: the errors of `mansu patch`."""

from collections.abc import Mapping
from pathlib import Path

from verify.artefact import LedgerStream, open_regular, shown
from verify.errors import ArtefactError, UsageError


def require_base(base: Path, name: str, digest: str) -> None:
    """Raise UsageError ME302 unless a file of the base is the one that was edited."""
    try:
        with open_regular(name, root=base) as file:
            found = file.sha256()
    except ArtefactError as error:
        found = error.found or error.message
    if found != digest:
        raise UsageError(
            f"this is not the base that was edited: {shown(name)}",
            expected=f"sha256 {digest}",
            found=found,
            remedy="give the base model's folder as its vendor published it, in the revision that the manifest names",
            error_id="ME302",
        )


def require_digest(name: str, found: str, digest: str, what: str) -> None:
    """Raise UsageError ME303 unless a digest is the manifest's."""
    if found != digest:
        raise UsageError(
            f"{what} is not as the manifest says: {shown(name)}",
            expected=f"sha256 {digest}",
            found=found,
            remedy="obtain the folder again from its producer; nothing was written",
            error_id="ME303",
        )


def require_all_tensors(ledger: LedgerStream, used: Mapping[str, object]) -> None:
    """Raise UsageError ME301 unless every tensor of the ledger was met with."""
    left = sorted(ledger.columns.keys() - used.keys())
    if left:
        raise unusable("a tensor of the ledger is in no file that was edited", "each in one", shown(left[0]))


def unusable(what: str, expected: str, found: str) -> UsageError:
    """Return UsageError ME301: the folder is no certificate with a patch, and no patch."""
    remedy = "give the folder that mansu unlearn or mansu patch wrote, whole"
    return UsageError(what, expected=expected, found=found, remedy=remedy, error_id="ME301")
