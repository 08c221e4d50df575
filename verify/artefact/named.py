"""Files that the user names: keys, certificates, a policy, a vendor's signature; no part of an artefact."""

from pathlib import Path

from verify.errors import UsageError


def read_named(path: Path, *, what: str, limit: int, remedy: str = "check the path", error_id: str = "ME200") -> bytes:
    """Read a file of at most `limit` bytes. Links and pipes are the user's own affair; `what` it is goes into messages.

    Raises UsageError `error_id` for one that cannot be read or is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        message = f"cannot read the {what} {path}: {error.strerror or 'unreadable'}"
        raise UsageError(message, remedy="check the path", error_id=error_id) from error
    if len(data) > limit:
        message = f"{path} is too large for a {what}"
        raise UsageError(message, expected=f"at most {limit} bytes", remedy=remedy, error_id=error_id)
    return data
