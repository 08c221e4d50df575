"""Which certificate this one supersedes: a number, so that a policy can refuse the earlier ones when played again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from verify.artefact.bundle import read_statement, unverified_payload
from verify.artefact.envelope import MAX_BYTES
from verify.errors import ArtefactError, UsageError


@dataclass(frozen=True, slots=True)
class Succession:
    """A certificate's number among those that supersede each other, and the SHA-256 of the payload before it."""

    sequence: int = 1
    previous_sha256: str | None = None


FIRST = Succession()
"""What supersedes nothing."""


def superseding(manifest: Path | None) -> Succession:
    """Return the place after an earlier manifest's, or the first where there is none.

    Its signature is not verified: the producer's key may have changed since, and what it says is signed anew.
    Raises `UsageError` ME221 where the file is no manifest.
    """
    if manifest is None:
        return FIRST
    try:
        if manifest.stat().st_size > MAX_BYTES:
            raise _unusable(manifest, f"a file of more than {MAX_BYTES:,} bytes")
        payload = unverified_payload(manifest.read_bytes(), certificates=True)
        earlier = read_statement(payload).predicate.sequence
    except OSError as error:
        raise _unusable(manifest, error.strerror or str(error)) from error
    except ArtefactError as error:
        raise _unusable(manifest, str(error)) from error
    return Succession(earlier + 1, hashlib.sha256(payload).hexdigest())


def _unusable(manifest: Path, found: str) -> UsageError:
    return UsageError(
        "the manifest to supersede cannot be read",
        expected=f"the m.json of an earlier certificate at {manifest}",
        found=found,
        remedy="give the m.json that this certificate supersedes, or leave --supersedes out for the first one",
        error_id="ME221",
    )
