"""Every vector of spec/vectors/ comes to what its expect.json says, and no vector is ever changed or lost.

A later version may fail more checks of a refused certificate (there may be more checks); what failed and what passed
when the vector was written must still do so.
"""

import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from verify.errors import ExitCode

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "spec" / "vectors"
sys.path.append(str(Path(__file__).parent / "vectors"))

import running  # noqa: E402  (found by the line above)

FOLDERS = sorted(path.parent for path in VECTORS.glob("*/*/expect.json"))
INTEGRITY = ("MV1",)


def name_of(folder: Path) -> str:
    return folder.relative_to(VECTORS).as_posix()


@pytest.fixture(scope="module")
def make() -> ModuleType:
    return importlib.import_module("make")


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_vector_comes_to_what_it_says(folder: Path) -> None:
    expected = running.expected_of(folder)
    result = running.ask(folder, expected)
    assert (result.verdict, result.exit_code) == (expected.verdict, expected.exit_code)
    status = {check.id: check.status for check in result.checks}
    assert {check_id: status[check_id] for check_id in expected.failed} == dict.fromkeys(expected.failed, "fail")
    assert {check_id: status[check_id] for check_id in expected.passed} == dict.fromkeys(expected.passed, "pass")


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_vector_is_of_its_kind(folder: Path) -> None:
    expected = running.expected_of(folder)
    kind = folder.parent.name
    assert bool(expected.failed) == (expected.verdict == "FAIL") == (kind != "valid")
    assert expected.exit_code == ExitCode[expected.verdict]
    if kind == "invalid":
        assert all(check_id.startswith(INTEGRITY) for check_id in expected.failed)
    if kind == "invalid-payload" and "MV103" not in expected.failed:  # the policy trusts another signer alone
        assert {"MV101", "MV102", "MV103", "MV104", "MV105", "MV110", "MV111"}.isdisjoint(expected.failed)


def test_there_are_vectors_of_every_kind_and_every_check_of_the_static_level_is_met() -> None:
    expected = [running.expected_of(folder) for folder in FOLDERS]
    refusing = {check_id for one in expected for check_id in one.failed}
    passing = {check_id for one in expected for check_id in one.passed}
    # links and devices (MV101) are no files of a repository, and probes of one's own (MV507) are no static check
    assert passing - refusing == {"MV101", "MV507"}
    assert {folder.parent.name for folder in FOLDERS} == {"valid", "invalid", "invalid-payload"}


@pytest.mark.parametrize("name", ["valid/by-certificate", "invalid/second-signature", "invalid-payload/half-bin-move"])
def test_a_vector_through_the_command(name: str) -> None:
    folder = VECTORS / name
    expected = running.expected_of(folder)
    call = [sys.executable, "-m", "verify.cli", *running.words(folder, expected), "--format", "json"]
    run = subprocess.run(call, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == expected.exit_code
    said = json.loads(run.stdout)
    assert said["verdict"] == expected.verdict
    assert set(expected.failed) <= {check["id"] for check in said["checks"] if check["status"] == "fail"}


def test_no_vector_was_changed_lost_or_left_unlisted(make: ModuleType) -> None:
    assert make.digests() == {name_of(folder): make.tree_digest(folder) for folder in FOLDERS}


def test_the_digest_is_what_sha256sum_comes_to(make: ModuleType) -> None:
    command = "find . -type f | LC_ALL=C sort | xargs sha256sum"
    folder = FOLDERS[0]
    lines = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True).stdout
    assert hashlib.sha256(lines).hexdigest() == make.tree_digest(folder)


def test_every_case_of_the_generator_is_there_and_none_is_written_again(make: ModuleType, tmp_path: Path) -> None:
    assert list(make.missing()) == []
    (tmp_path / "valid" / "plain").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        make.write("valid", make.KINDS["valid"]["plain"], None, tmp_path)
    assert list((tmp_path / "valid" / "plain").iterdir()) == []


def test_the_generator_writes_what_it_is_asked_for_and_refuses_a_wrong_expectation(
    make: ModuleType, tmp_path: Path
) -> None:
    from dataclasses import replace

    make.write_keys(tmp_path / "keys")
    honest = make.honest_certificate(tmp_path)
    case = make.KINDS["invalid"]["flipped-weight"]
    with pytest.raises(ValueError, match="MV105"):
        make.write("invalid", replace(case, refused_by=("MV209",)), honest, tmp_path)
    assert list((tmp_path / "invalid").iterdir()) == []
    make.write("invalid", case, honest, tmp_path)
    assert running.expected_of(tmp_path / "invalid" / case.name).failed == ("MV105", "MV107")


def test_the_vectors_are_small_and_hold_no_private_key() -> None:
    files = [path for path in VECTORS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2 * 1024 * 1024
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in files)
    assert not any(path.is_symlink() for path in VECTORS.rglob("*"))
