"""The engine is killed, interrupted and starved while it writes: there is the whole certificate, or none.

And what is left of an attempt never passes, not even beside the manifest of one that succeeded. `sealer.py` makes the
attempts, in a process of its own; what it traces also shows that all is on the disk before it gets its name.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import certificates as c
import pytest

from verify.artefact import walk
from verify.check import check
from verify.errors import UsageError

SEALER = Path(__file__).parent / "sealer.py"
ROOT = SEALER.parent.parent.parent
FILES = {
    "ledger.safetensors", "m.json", "model.sig",
    "model/config.json", "model/generation_config.json", "model/model.safetensors", "model/tokenizer.json",
    "model/tokenizer_config.json", "probes/choices.jsonl", "probes/pairs.jsonl",
    "probes/pools.json", "probes/text.jsonl",
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    mode: str
    folder: Path
    ended: str
    left: tuple[str, ...]
    files: frozenset[str]


@dataclass(frozen=True)
class Attempts:
    """All attempts, and the file operations of one that was left alone."""

    of: dict[str, list[Attempt]]
    trace: list[list[str]]


def has_mounts() -> bool:
    """Tell whether a mount namespace of our own can be had, in which file systems of any size can be made."""
    script = "mount -t tmpfs -o size=4k none /mnt"
    tools = shutil.which("unshare") and shutil.which("mount")
    return (
        bool(tools)
        and subprocess.run(["unshare", "-m", "sh", "-c", script], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_keys: c.Keys) -> Attempts:
    work, temporary = tmp_path_factory.mktemp("crash"), tmp_path_factory.mktemp("temporary")
    modes = ["kill", "chance", "interrupt", "error", "limit", *(["disk"] if has_mounts() else []), "trace"]
    namespace = ["unshare", "-m"] if "disk" in modes else []
    line = [*namespace, sys.executable, SEALER, tiny_base, tiny_keys.private, work, *modes]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    of: dict[str, list[Attempt]] = {mode: [] for mode in modes}
    trace = []
    for entry in map(json.loads, run.stdout.splitlines()):
        if entry["mode"] == "trace":
            trace = entry["done"]
            continue
        folder = work / entry["mode"] / entry["name"]
        found = Attempt(entry["mode"], folder, entry["ended"], tuple(entry["left"]), frozenset(entry["files"]))
        of[entry["mode"]].append(found)
    return Attempts(of, trace)


def verdict(folder: Path, keys: c.Keys) -> str:
    try:
        return check(folder / "model", folder / "m.json", keys=[keys.public], level="static").verdict
    except UsageError:
        return "UNUSABLE"


def contents(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return what lies in a folder; two attempts that left the same need not both be verified."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "m.json")
    return tuple((path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)


def whole(attempt: Attempt) -> bool:
    return {f"out/{name}" for name in FILES} <= attempt.files


def test_a_hundred_kills_leave_the_whole_certificate_or_none(attempts: Attempts) -> None:
    killed = [entry for mode in ("kill", "chance") for entry in attempts.of[mode] if entry.ended == "killed"]
    assert len(killed) >= 100
    for entry in killed:
        assert ("out" in entry.left) is whole(entry), entry
        assert all(name == "out" or (name.startswith(".out.") and name.endswith(".partial")) for name in entry.left)
    assert any(entry.left == () for entry in killed)
    assert any("out" in entry.left for entry in killed), "the last moments lie after the rename"
    assert attempts.of["kill"][-1].ended == "done", "every moment of a whole run was tried"


def test_nothing_that_a_kill_leaves_passes_unless_it_is_whole(
    attempts: Attempts, tiny_keys: c.Keys, tmp_path: Path
) -> None:
    """Each different state is verified as it was left, and again beside the manifest of a run that succeeded."""
    good = attempts.of["kill"][-1].folder / "out"
    assert verdict(good, tiny_keys) == "PASS"
    seen: dict[object, str] = {}
    for entry in (*attempts.of["kill"], *attempts.of["chance"]):
        for name in entry.left:
            state = entry.folder / name
            manifest = (state / "m.json").exists()
            key = (manifest, contents(state))
            if key in seen:
                continue
            complete = {path for path in FILES if (state / path).is_file()}
            assert (verdict(state, tiny_keys) == "PASS") is (set(walk(state)) == FILES)
            lent = tmp_path / str(len(seen))
            shutil.copytree(state, lent)
            shutil.copy(good / "m.json", lent / "m.json")
            seen[key] = verdict(lent, tiny_keys)
            assert seen[key] != "PASS" or complete >= FILES - {"m.json", "model.sig"}  # which may be absent
    assert len(seen) > 30
    assert Counter(seen.values())["FAIL"] > 20


def test_a_kill_does_not_stand_in_the_way_of_the_next_run(
    attempts: Attempts, tiny_base: Path, tiny_keys: c.Keys
) -> None:
    entry = next(entry for entry in attempts.of["kill"] if entry.left and "out" not in entry.left)
    c.make(tiny_base, entry.folder / "out", tiny_keys, c.valid_edits(tiny_base))
    assert verdict(entry.folder / "out", tiny_keys) == "PASS"


@pytest.mark.parametrize(("mode", "ended"), [("interrupt", "interrupted"), ("error", "refused")])
def test_an_interruption_and_an_error_anywhere_leave_nothing(attempts: Attempts, mode: str, ended: str) -> None:
    assert len(attempts.of[mode]) > 25
    assert {entry.ended for entry in attempts.of[mode]} <= {ended, "done"}
    for entry in attempts.of[mode]:
        assert entry.left == (("out",) if whole(entry) else ()), entry
        assert entry.ended != "done" or whole(entry), entry
    assert any(not entry.left for entry in attempts.of[mode])


@pytest.mark.parametrize("mode", ["limit", "disk"])
def test_where_there_is_no_room_nothing_is_left(attempts: Attempts, mode: str) -> None:
    """`limit` bounds the size of a file, and needs no rights; `disk` is a file system that is really full."""
    if mode not in attempts.of:
        pytest.skip("no mount namespace can be had here")
    assert {entry.ended for entry in attempts.of[mode]} == {"refused", "done"}
    for entry in attempts.of[mode]:
        assert entry.left == (("out",) if entry.ended == "done" else ()), entry
        assert whole(entry) is (entry.ended == "done"), entry


def test_all_is_on_the_disk_before_it_gets_its_name(attempts: Attempts) -> None:
    """Every file is synced before it is renamed, its folder afterwards, and the certificate's own parent last."""
    at = next(i for i, (name, *paths) in enumerate(attempts.trace) if name == "rename" and paths[1].endswith("/out"))
    staged, out = attempts.trace[at][1:]
    before, after = attempts.trace[:at], attempts.trace[at + 1 :]
    last_sync = {path: i for i, (name, path, *_) in enumerate(_padded(before)) if name == "fsync"}
    named = [
        (i, *paths) for i, (name, *paths) in enumerate(before) if name == "replace" and paths[0].startswith(staged)
    ]
    assert len(named) == len(FILES)
    for i, temporary, final in named:
        assert last_sync[temporary] < i, final
        assert last_sync[str(Path(final).parent)] > i, final
    made = [path for name, path, *_ in _padded(before) if name == "mkdir" and path.startswith(staged + "/")]
    assert all(last_sync[str(Path(path).parent)] > before.index(["mkdir", path]) for path in made)
    assert ["fsync", str(Path(out).parent)] in after


def _padded(trace: list[list[str]]) -> list[list[str]]:
    return [[*entry, ""] if len(entry) == 1 else entry for entry in trace]
