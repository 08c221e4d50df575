"""A model card's section, put into a README.md in place: all that lies outside its markers stays as it is.

`mansu card` is this module: the engine's command line hands over here, for only the verifier's may use the reports.
"""

import hashlib
import re
import stat
from pathlib import Path

from reports.card import END, START, render_card
from verify.artefact import write_atomic
from verify.artefact.named import read_named
from verify.contract.result import Result
from verify.errors import UsageError
from verify.reading import LARGEST_RESULT, parse_result

PLACES = ("report/result.json", "result.json")
"""Where a certificate's folder may hold its result."""
LARGEST_README = 16 * 1024 * 1024
_MANIFEST = "m.json"
_WEIGHTS = (".safetensors", ".safetensors.index.json")


def card(source: Path, readme: Path | None) -> str:
    """Return the section for a result.json, or for that of a certificate's folder; into `readme` too, if it is given.

    The digest in it is that of the file's bytes. Raises UsageError ME310 to ME313, and then has written nothing.
    """
    path = result_of(source)
    data = read_named(path, what="result", limit=LARGEST_RESULT, error_id="ME310")
    result = parse_result(data, str(path))
    if source.is_dir():
        _require_same_manifest(source, result, path)
    section = render_card(result, hashlib.sha256(data).hexdigest())
    if readme is not None:
        _require_unsigned(readme, result)
        _write(readme, section)
    return section


def result_of(source: Path) -> Path:
    """Return the path of the result that `source` is or holds; UsageError ME313 for a folder without one."""
    if not source.is_dir():
        return source
    for name in PLACES:
        if (source / name).is_file():
            return source / name
    raise _of_another(f"{source} holds no result", expected=" or ".join(PLACES), found="neither")


def placed(readme: bytes, section: bytes) -> bytes:
    """Return a card with the section in place of its old one, or at its end; every other byte is as before.

    Lines of the section end as the card's do. Raises ValueError where the markers are not one pair in order.
    """
    newline = b"\r\n" if b"\r\n" in readme or readme.endswith(b"\r") else b"\n"
    section = section.replace(b"\n", newline)
    starts, ends = (_lines(mark, readme) for mark in (START, END))
    if not starts and not ends:
        gap = b"" if not readme else newline if readme.endswith(b"\n") else 2 * newline
        return readme + gap + section
    if len(starts) != 1 or len(ends) != 1 or starts[0] > ends[0]:
        raise ValueError(f"{len(starts)} first and {len(ends)} last lines of a section")
    return readme[: starts[0][0]] + section + readme[ends[0][1] :]


def _lines(mark: str, text: bytes) -> list[tuple[int, int]]:
    """Return where the lines lie that are this mark, newline included."""
    line = rb"^" + re.escape(mark.encode()) + rb"[ \t]*(?:\r?\n|\Z)"
    return [match.span() for match in re.finditer(line, text, re.MULTILINE)]


def _write(readme: Path, section: str) -> None:
    """Put the section into the file at `readme`, as a whole or not at all; a file that is not there is made."""
    mode, old = 0o644, b""
    if readme.is_symlink() or readme.exists():
        if readme.is_symlink() or not readme.is_file():
            raise _unusable(f"{readme} is no plain file", "a README.md", "a link or something else")
        mode = stat.S_IMODE(readme.stat().st_mode)
        old = read_named(readme, what="model card", limit=LARGEST_README, error_id="ME311")
    try:
        new = placed(old, section.encode())
    except ValueError as error:
        raise _unusable(f"{readme}: the section's markers", "none, or one pair", str(error)) from error
    if new != old:
        write_atomic(readme, new, mode)


def _require_same_manifest(folder: Path, result: Result, path: Path) -> None:
    manifest = folder / _MANIFEST
    data = read_named(manifest, what="manifest", limit=LARGEST_README, error_id="ME313") if manifest.exists() else b""
    digest = hashlib.sha256(data).hexdigest() if data else "none"
    if digest != result.manifest_sha256:
        raise _of_another(f"{path} is about another manifest", expected=str(result.manifest_sha256), found=digest)


def _require_unsigned(readme: Path, result: Result) -> None:
    """Refuse a card among the signed files: where one of the result's weight files lies, every file is signed."""
    signed = {Path(file.name).name: file.sha256 for file in result.files if file.name.startswith("model/")}
    beside = sorted(name for name in signed if name.endswith(_WEIGHTS) and (readme.parent / name).is_file())
    own = readme.is_file() and hashlib.sha256(readme.read_bytes()).hexdigest() in signed.values()
    if beside or own:
        found = f"{beside[0]} beside it" if beside else "a file with a signed digest"
        remedy = "keep the card beside the model's folder: OUT/README.md"
        raise UsageError(f"{readme} lies among the signed files", found=found, remedy=remedy, error_id="ME312")


def _of_another(message: str, *, expected: str, found: str) -> UsageError:
    remedy = "check the certificate anew with --report json=OUT/result.json"
    return UsageError(message, expected=expected, found=found, remedy=remedy, error_id="ME313")


def _unusable(message: str, expected: str, found: str) -> UsageError:
    remedy = "give the file itself, and remove what is left of an older section"
    return UsageError(message, expected=expected, found=found, remedy=remedy, error_id="ME311")
