"""Folders that appear whole or not at all, and what the parts of a certificate are called."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verify.artefact.files import sync_folder
from verify.errors import UsageError

MODEL, LEDGER, PROBES, SIGNATURE, MANIFEST = "model", "ledger.safetensors", "probes", "model.sig", "m.json"


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """Give a private folder beside `out` to write in; what was not renamed in the end is removed.

    It is made inside the `try`: an interrupt may come as soon as it is there.
    """
    folder = out.parent / f".{out.name}.{secrets.token_hex(8)}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def staging(out: Path, what: str = "the certificate") -> Iterator[Path]:
    """Give a folder beside `out` to write in, and rename it to `out` on success; on any failure nothing is left.

    Everything in it is on the disk before it gets its name: after a crash there is no `out`, or the whole of it.

    `what` is what errors call it. Raises `UsageError` ME220 if `out` exists or its parent cannot be written.
    """
    refuse_existing(out)
    try:
        with partial_folder(out) as folder:
            yield folder
            folder.chmod(0o755)
            for inner in (*sorted(path for path in folder.rglob("*") if path.is_dir()), folder):
                sync_folder(inner)
            folder.rename(out)
    except OSError as error:
        raise _not_written(out, error, what) from error
    try:
        sync_folder(out.parent)
    except OSError as error:
        raise UsageError(
            f"{what} is whole, but the disk did not confirm that its folder has a name",
            found=error.strerror or str(error),
            remedy=f"check the disk, and that {out} is still there after a restart",
            error_id="ME220",
        ) from error


def refuse_existing(out: Path) -> None:
    """Raise `UsageError` ME220 if `out` exists: a certificate is never overwritten."""
    if out.exists():
        raise UsageError(
            "the output folder exists",
            expected="a new folder",
            found=str(out),
            remedy="give another --out, or remove the folder first",
            error_id="ME220",
        )


def _not_written(out: Path, error: OSError, what: str) -> UsageError:
    return UsageError(
        f"{what} could not be written",
        expected=f"room and permission to write {out}",
        found=error.strerror or str(error),
        remedy="free some space or choose another --out; nothing was left behind",
        error_id="ME220",
    )
