"""That cells which stand in one table were made alike: of one base and sets, one method's with one configuration."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from mansu.bench.study.document import EditRecord
from verify.errors import UsageError

_BY_SEED = frozenset({"seed"})
"""Settings that differ from cell to cell."""
_NONE = "(no such setting)"


def require_alike(records: Iterable[EditRecord]) -> None:
    """Raise `UsageError` ME382 unless all edits have one base and sets, and the engine's one configuration a method.

    Baselines are tuned, so that what they were run with may differ.
    """
    first: EditRecord | None = None
    by_method: dict[str, EditRecord] = {}
    for record in records:
        first = first or record
        require_base(record, first.base_sha256)
        require_sets(record, first.sets_sha256)
        if record.strength is None:
            require_settings(record, by_method.setdefault(record.method, record).settings)


def require_base(record: EditRecord, base_sha256: str) -> None:
    """Raise `UsageError` ME382 where an edit is of another base."""
    if record.base_sha256 != base_sha256:
        raise _unlike(record, f"an edit of base {base_sha256[:12]}", f"one of base {record.base_sha256[:12]}")


def digest_of(forget: Path, retain: Path) -> str:
    """Return one sha256 of both sets."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in (forget, retain))).hexdigest()


def require_sets(record: EditRecord, sets_sha256: str | None) -> None:
    """Raise `UsageError` ME382 where an edit was made with other sets: another version's of a suite, say."""
    if record.sets_sha256 != sets_sha256:
        expected, found = (
            f"sets {known[:12]}" if known else "unnamed sets" for known in (sets_sha256, record.sets_sha256)
        )
        raise _unlike(record, f"an edit with {expected}", f"one with {found}")


def require_device(record: EditRecord, device: torch.device) -> None:
    """Raise `UsageError` ME382 where an edit was trained on a device of another type: it would be asked on this one."""
    if torch.device(record.device).type != device.type:
        raise _unlike(record, f"--device {device.type}", f"--device {record.device}")


def require_settings(record: EditRecord, settings: Mapping[str, JsonValue]) -> None:
    """Raise `UsageError` ME382 where an edit was made with other settings, or by a version that lacks one of them."""
    for name in sorted((settings.keys() | record.settings.keys()) - _BY_SEED):
        wanted, made = settings.get(name, _NONE), record.settings.get(name, _NONE)
        if wanted != made:
            raise _unlike(record, f"{name} = {wanted}", f"{name} = {made}")


def _unlike(record: EditRecord, expected: str, found: str) -> UsageError:
    return UsageError(
        "an edit that is there was made in another way, and cannot stand in this table",
        expected=expected,
        found=f"{found} ({record.suite}, seed {record.seed}: {record.title})",
        remedy="give another --out, or the --model and --config that it was made with, or remove its folder",
        error_id="ME382",
    )
