import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from verify.artefact import files
from verify.errors import ArtefactError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "cert"
    (root / "model").mkdir(parents=True)
    (root / "model" / "config.json").write_bytes(b"{}")
    (root / ".hidden").write_bytes(b"")
    return root


def test_reads_and_lists(root: Path) -> None:
    assert files.read_regular("model/config.json", root=root) == b"{}"
    assert files.read_regular(".hidden", root=root) == b""
    assert files.walk(root) == [".hidden", "model/config.json"]


def test_root_may_be_a_link_of_the_users_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert files.read_regular("model/config.json", root=tmp_path / "alias") == b"{}"


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../outside", "model/../../outside", ".", "./model", "model//config.json", "model/",
     "a\\b", "..\\outside", "C:/x", "a\x00b", "a\nb", "a\x1b[2Jb", "a\u202eb", "a\u2028b"],
)  # fmt: skip
def test_unsafe_names(root: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="unsafe file name") as caught:
        files.read_regular(name, root=root)
    assert caught.value.id == "MV101"
    assert caught.value.diagnostic().isascii()


def _irregular(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "folder-link").symlink_to(root.parent)
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    with contextlib.chdir(root):  # a socket's whole path must be short
        listener.bind("socket")
    listener.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("link", "symbolic link"),
        ("folder-link/outside", "symbolic link"),
        ("fifo", "FIFO"),
        ("socket", "socket"),
        ("model", "folder"),
        ("model/config.json/x", "regular file"),
        ("missing", "No such file"),
    ],
)
def test_only_regular_files_are_read(root: Path, name: str, reason: str) -> None:
    _irregular(root)
    with pytest.raises(ArtefactError) as caught:
        files.read_regular(name, root=root)
    assert caught.value.id == "MV101"
    assert reason in caught.value.found


def test_devices_are_not_read() -> None:
    with pytest.raises(ArtefactError) as caught:
        files.read_regular("null", root=Path("/dev"))
    assert caught.value.found == "a device"


def test_a_file_swapped_for_a_link_after_the_look_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat

    def swapping(path: str, **rest: int) -> os.stat_result:
        status = real(path, **rest)
        if path == "config.json":
            (root / "model" / "config.json").unlink()
            (root / "model" / "config.json").symlink_to(root.parent / "outside")
        return status

    monkeypatch.setattr(files.os, "lstat", swapping)
    with pytest.raises(ArtefactError) as caught:
        files.read_regular("model/config.json", root=root)
    assert caught.value.id == "MV101"


def test_a_file_that_grows_while_it_is_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def growing(fd: int) -> os.stat_result:
        status = real(fd)
        with (root / "model" / "config.json").open("ab") as stream:
            stream.write(b" ")
        return status

    monkeypatch.setattr(files.os, "fstat", growing)
    with pytest.raises(ArtefactError, match="changed while it was read"):
        files.read_regular("model/config.json", root=root)


def test_size_limit(root: Path) -> None:
    assert files.read_regular("model/config.json", root=root, limit=2) == b"{}"
    with pytest.raises(ArtefactError, match="too large"):
        files.read_regular("model/config.json", root=root, limit=1)


@pytest.mark.parametrize("kind", ["link", "folder-link", "fifo", "socket"])
def test_walk_refuses_what_is_not_regular(root: Path, kind: str) -> None:
    _irregular(root)
    for other in {"link", "folder-link", "fifo", "socket"} - {kind}:
        (root / other).unlink()
    with pytest.raises(ArtefactError) as caught:
        files.walk(root)
    assert caught.value.id == "MV101"


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"a\\b"])
def test_walk_refuses_names_that_cannot_be_shown(root: Path, name: bytes) -> None:
    (root / os.fsdecode(name)).touch()
    with pytest.raises(ArtefactError, match="unsafe"):
        files.walk(root)


def test_walk_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot list"):
        files.walk(tmp_path / "none")


def test_write_atomic(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_atomic(path, b"old")
    files.write_atomic(path, bytearray(b"new"), mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_write_atomic_keeps_the_old_file_on_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    files.write_atomic(path, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_write_atomic_replaces_a_link_rather_than_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "out").symlink_to(tmp_path / "target")
    files.write_atomic(tmp_path / "out", b"new")
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert not (tmp_path / "out").is_symlink()
