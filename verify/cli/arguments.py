"""Arguments that need reading: keys, pinned digests, and the paths that reports are written to."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from verify.cli.output import require_renderer
from verify.errors import UsageError

REPORTS = ("html", "pdf", "json", "text", "markdown", "sarif", "junit", "card")
"""Forms that `--report` writes."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def keys(given: Sequence[Path]) -> list[Path]:
    """Return the keys given, else the one that MANSU_KEY names, else none."""
    if given:
        return list(given)
    named = os.environ.get("MANSU_KEY")
    return [Path(named)] if named else []


def pinned(text: str) -> tuple[str, str]:
    """Return name ("" if none was given) and digest of `[NAME=]SHA256`; UsageError for anything else."""
    name, _, digest = text.rpartition("=")
    digest = digest.lower()
    if not _DIGEST.fullmatch(digest):
        raise UsageError("--base-digest", expected="[NAME=]SHA256, 64 hexadecimal digits", found=ascii(text))
    return name, digest


def pins(texts: Sequence[str]) -> dict[str, str]:
    """Return every pin by name; UsageError where two of them name one file: neither may silently lose."""
    found: dict[str, str] = {}
    for text in texts:
        name, digest = pinned(text)
        if found.setdefault(name, digest) != digest:
            both = f"{found[name]} and {digest}"
            raise UsageError("--base-digest: one file is pinned to two digests", expected="one digest", found=both)
    return found


def report_target(text: str, model: Path, manifest: Path) -> tuple[str, Path]:
    """Return form and path of `FORM=PATH`; UsageError for another form, or a path among the signed files."""
    form, _, path = text.partition("=")
    if form not in REPORTS or not path:
        raise UsageError("--report", expected=f"{', '.join(REPORTS)} and a path: html=PATH", found=ascii(text))
    require_outside(Path(path), model, manifest)
    require_renderer(form)
    return form, Path(path)


def require_outside(path: Path, model: Path, manifest: Path) -> None:
    """Refuse to write among the signed files: the next check would find a file too many."""
    folder = model if model.is_dir() else model.parent
    for signed in (folder.resolve(), (manifest.parent / "probes").resolve()):
        if path.resolve().is_relative_to(signed):
            raise UsageError(
                f"{path} lies among the signed files", remedy="write it elsewhere, for instance to report/"
            )
    if path.resolve() == manifest.resolve() or path.name in {"ledger.safetensors", "model.sig"}:
        raise UsageError(f"{path} is a signed file", remedy="write it elsewhere, for instance to report/")
    require_writable(path)


def require_writable(path: Path) -> None:
    """Raise UsageError unless a file can be written at `path`.

    Nothing is written to /dev or /proc: a file is put in place whole, and so would replace what stands there, such as
    the link /dev/stdout, which leads to a file wherever a shell sends the output to one.
    """
    folder = path.parent.resolve()
    if folder == Path("/dev") or folder.is_relative_to("/proc"):
        raise UsageError(f"cannot write {path}", expected="a file", remedy="leave -o out: the result goes to stdout")
    if (path.exists() and not path.is_file()) or not path.parent.is_dir():  # a device would be replaced by a file
        raise UsageError(
            f"cannot write {path}", expected="a file in an existing folder", remedy="make its folder first"
        )


def completed_reports(incomplete: str) -> list[str]:
    """Complete the form of `--report FORM=PATH` for a shell; the path it completes itself."""
    return [f"{form}=" for form in REPORTS if f"{form}=".startswith(incomplete)]


def completed_ids(incomplete: str) -> list[tuple[str, str]]:
    """Complete an id for a shell, with its title."""
    from verify.contract.catalogue import ENTRIES  # noqa: PLC0415  (not needed for help)

    return [(entry.id, entry.title) for entry in ENTRIES.values() if entry.id.startswith(incomplete.upper())]
