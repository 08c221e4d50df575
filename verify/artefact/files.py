"""Files of a certificate on disk: opened only when regular, listed without links, written atomically."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verify.artefact.envelope import shown
from verify.errors import ArtefactError, UsageError

CHECK = "MV101"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block the verifier
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a regular file",
}


def relative_parts(name: str, *, check_id: str) -> tuple[str, ...]:
    """Return the components of a `/`-separated name that stays inside its root on every system.

    Raises ArtefactError(check_id) for an empty or absolute name, `.`, `..` or empty components, backslashes, drive
    letters and control characters.
    """
    parts = tuple(name.split("/"))
    drive = name[1:2] == ":"
    if "\\" in name or drive or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        expected = "a relative name without '..', backslash or control characters"
        raise ArtefactError(check_id, "unsafe file name", expected=expected, found=shown(name))
    return parts


_PIECE = 1 << 22


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A regular file, open for reading at any place; `size` is what it had when it was opened."""

    name: str
    size: int
    descriptor: int

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`; ArtefactError MV101 where the file has become shorter."""
        try:
            data = os.pread(self.descriptor, stop - start, start)
        except OSError as error:
            raise _unreadable(self.name, error) from error
        if len(data) < stop - start:  # rarely more than the end of the file: one call reads 2 GiB
            rest = bytearray(stop - start - len(data))
            self.read_into(memoryview(rest), start + len(data))
            data += rest
        return data

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a writable buffer with the bytes from `start` on; raises as `read`."""
        done = 0
        try:
            while done < len(buffer):
                count = os.preadv(self.descriptor, [buffer[done:]], start + done)
                if count == 0:
                    found = f"{start + done} bytes"
                    raise _refused(self.name, "changed while it was read", expected=f"{self.size} bytes", found=found)
                done += count
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def sha256(self) -> str:
        """Return the digest of the whole file, read in pieces."""
        digest = hashlib.sha256()
        for start in range(0, self.size, _PIECE):
            digest.update(self.read(start, min(start + _PIECE, self.size)))
        return digest.hexdigest()

    def require_same_size(self) -> None:
        """Raise ArtefactError MV101 if the file has grown or shrunk since it was opened."""
        size = os.fstat(self.descriptor).st_size
        if size != self.size:
            found = f"{size} bytes"
            raise _refused(self.name, "changed while it was read", expected=f"{self.size} bytes", found=found)


@contextlib.contextmanager
def open_regular(name: str, *, root: Path, limit: int | None = None) -> Iterator[OpenFile]:
    """Open the regular file `name`, a `/`-separated name relative to the folder `root`.

    Every component is opened relative to the one before without following links, so nothing can be swapped in between;
    `root` itself is the user's own word. Raises ArtefactError MV101 for anything but a regular file inside `root`, or
    one larger than `limit` bytes.
    """
    parts = relative_parts(name, check_id=CHECK)
    with contextlib.ExitStack() as stack:
        try:
            folder = os.open(root, _FOLDER)
            stack.callback(os.close, folder)
            for part in parts[:-1]:
                _require_kind(os.lstat(part, dir_fd=folder), stat.S_IFDIR, name)
                folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                stack.callback(os.close, folder)
            _require_kind(os.lstat(parts[-1], dir_fd=folder), stat.S_IFREG, name)  # opening a device has effects
            descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
            stack.callback(os.close, descriptor)
            status = os.fstat(descriptor)
        except OSError as error:
            raise _unreadable(name, error) from error
        _require_kind(status, stat.S_IFREG, name)
        if limit is not None and status.st_size > limit:
            raise _refused(name, "too large", expected=f"at most {limit} bytes", found=f"{status.st_size} bytes")
        yield OpenFile(name, status.st_size, descriptor)


def read_regular(name: str, *, root: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file, read once from the descriptor that was examined; see `open_regular`."""
    with open_regular(name, root=root, limit=limit) as file:
        data = file.read(0, file.size)
        file.require_same_size()
    return data


def walk(root: Path) -> list[str]:
    """Return the sorted `/`-separated names of all files under `root`, hidden ones included.

    Raises ArtefactError MV101 for a symbolic link (to a file or a folder), anything else that is neither a folder
    nor a regular file, and names that `relative_parts` refuses; UsageError when `root` cannot be listed.
    """
    names: list[str] = []
    folders = [""]
    try:
        while folders:
            prefix = folders.pop()
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    relative_parts(name, check_id=CHECK)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name + "/")
                    else:
                        _require_kind(entry.stat(follow_symlinks=False), stat.S_IFREG, name)
                        names.append(name)
    except OSError as error:
        raise UsageError(
            f"cannot list {root}: {error.strerror}", remedy="check the path and its permissions"
        ) from error
    return sorted(names)


def write_atomic(path: Path, data: bytes | bytearray | memoryview, mode: int = 0o644) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one, never a part.

    A temporary file in the same folder is synced and renamed; it is removed on any failure. An existing file, or
    link, of that name is replaced. Raises UsageError when the folder cannot be written.
    """
    try:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(fd, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        remedy = "check free space and permissions"
        raise UsageError(f"cannot write {path}: {error.strerror}", remedy=remedy) from error


def _require_kind(status: os.stat_result, kind: int, name: str) -> None:
    found = stat.S_IFMT(status.st_mode)
    if found != kind:
        raise _refused(name, "not " + _KINDS[kind], expected=_KINDS[kind], found=_KINDS.get(found, "something else"))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; OSError where that fails."""
    fd = os.open(folder, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refused(name: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    remedy = "give a folder of real files (a linked cache can be copied with: cp -rL)" if "link" in found else ""
    return ArtefactError(CHECK, f"{shown(name)}: {reason}", expected=expected, found=found, remedy=remedy)


def _unreadable(name: str, error: OSError) -> ArtefactError:
    return _refused(name, "cannot be read", found=error.strerror or type(error).__name__)
