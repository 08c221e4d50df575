"""Files of a certificate on disk: read once and only when regular, listed without links, written atomically."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verify.artefact.envelope import shown, strict_json
from verify.artefact.tensors import TensorFile, TensorView, parse
from verify.errors import ArtefactError, UsageError

CHECK = "MV101"
INDEX_CHECK = "MV111"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block the verifier
_INDEX_LIMIT = 64 * 1024 * 1024
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


def read_regular(name: str, *, root: Path, limit: int | None = None) -> bytes:
    """Return the bytes of the regular file `name`, a `/`-separated name relative to the folder `root`.

    Every component is opened relative to the one before without following links, and the bytes come once from the
    descriptor that was examined, so nothing can be swapped in between; `root` itself is the user's own word.
    Raises ArtefactError MV101 for anything but a regular file inside `root`, or one larger than `limit` bytes.
    """
    parts = relative_parts(name, check_id=CHECK)
    try:
        with contextlib.ExitStack() as stack:
            folder = os.open(root, _FOLDER)
            stack.callback(os.close, folder)
            for part in parts[:-1]:
                _require_kind(os.lstat(part, dir_fd=folder), stat.S_IFDIR, name)
                folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                stack.callback(os.close, folder)
            _require_kind(os.lstat(parts[-1], dir_fd=folder), stat.S_IFREG, name)  # opening a device has effects
            stream = stack.enter_context(os.fdopen(os.open(parts[-1], _FILE, dir_fd=folder), "rb", buffering=0))
            status = os.fstat(stream.fileno())
            _require_kind(status, stat.S_IFREG, name)
            if limit is not None and status.st_size > limit:
                raise _refused(name, "too large", expected=f"at most {limit} bytes", found=f"{status.st_size} bytes")
            data = stream.readall()
    except OSError as error:
        raise _refused(name, "cannot be read", found=error.strerror or type(error).__name__) from error
    if len(data) != status.st_size:
        raise _refused(
            name, "changed while it was read", expected=f"{status.st_size} bytes", found=f"{len(data)} bytes"
        )
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
        _sync_folder(path.parent)
    except OSError as error:
        remedy = "check free space and permissions"
        raise UsageError(f"cannot write {path}: {error.strerror}", remedy=remedy) from error


@dataclass(frozen=True)
class ModelFiles:
    """A model's weight files by name relative to `root`, in order of name; `index` is None for a single file."""

    root: Path
    files: dict[str, TensorFile]
    index: str | None

    def holder(self, tensor: str) -> TensorFile:
        """Return the file that holds `tensor`. Raises ArtefactError MV111 when none does."""
        for file in self.files.values():
            if tensor in file.tensors:
                return file
        raise ArtefactError(INDEX_CHECK, f"no weight file holds tensor {shown(tensor)}")

    def tensors(self) -> dict[str, TensorView]:
        """Return every tensor's view, by name; names are unique over all files."""
        return {name: view for file in self.files.values() for name, view in file.tensors.items()}


def read_weights(path: Path) -> ModelFiles:
    """Read a model's weights: `path` is a model folder, one .safetensors file, or an .index.json file.

    Raises UsageError when `path` does not exist, ArtefactError MV101 (not a regular file), MV110 (not a strict
    safetensors file), or MV111 (no weights, both forms at once, or an index that does not match its files).
    """
    if path.is_dir():
        root, name = path, _weights_name(path)
    elif os.path.lexists(path):
        root, name = path.parent, path.name
    else:
        raise UsageError(f"{path} does not exist", remedy="give a model folder or a .safetensors file")
    if not name.endswith(".index.json"):
        return ModelFiles(root, {name: parse(read_regular(name, root=root), name=name)}, None)
    weight_map = _weight_map(read_regular(name, root=root, limit=_INDEX_LIMIT), name)
    files: dict[str, TensorFile] = {}
    for shard in sorted(set(weight_map.values())):
        files[shard] = parse(read_regular(shard, root=root), name=shard)
    _require_match(weight_map, files, name)
    return ModelFiles(root, files, name)


def parse_weights(buffers: Mapping[str, bytes], *, root: Path) -> ModelFiles:
    """Parse the weights among a folder's files already in memory, so that what was hashed is what is used.

    `buffers` maps names relative to `root` to whole files. Raises ArtefactError MV110 or MV111 as `read_weights`
    does, and MV111 too for a shard that is missing and for a safetensors file that no loader's index names.
    """
    present = [name for name in (SINGLE_NAME, INDEX_NAME) if name in buffers]
    if len(present) != 1:
        found = "both, and loaders disagree on which counts" if present else "neither"
        raise ArtefactError(INDEX_CHECK, "the model's weights", expected=f"{SINGLE_NAME} or {INDEX_NAME}", found=found)
    weight_map = None if present[0] == SINGLE_NAME else _weight_map(buffers[INDEX_NAME], INDEX_NAME)
    names = {SINGLE_NAME} if weight_map is None else set(weight_map.values())
    for missing in sorted(names - buffers.keys()):
        raise ArtefactError(INDEX_CHECK, f"{INDEX_NAME} names a file that is missing", found=shown(missing))
    for stray in sorted(name for name in buffers if name.endswith(".safetensors") and name not in names):
        message = "a weight file beside those that are loaded"
        raise ArtefactError(INDEX_CHECK, message, expected=", ".join(sorted(names)), found=shown(stray))
    files = {name: parse(buffers[name], name=name) for name in sorted(names)}
    if weight_map is not None:
        _require_match(weight_map, files, INDEX_NAME)
    return ModelFiles(root, files, None if weight_map is None else INDEX_NAME)


def _weights_name(folder: Path) -> str:
    present = [name for name in (SINGLE_NAME, INDEX_NAME) if os.path.lexists(folder / name)]
    if len(present) != 1:
        found = "both, and loaders disagree on which counts" if present else "neither"
        raise ArtefactError(
            INDEX_CHECK, f"{folder.name}: weights", expected=f"{SINGLE_NAME} or {INDEX_NAME}", found=found
        )
    return present[0]


def _weight_map(data: bytes, name: str) -> dict[str, str]:
    """Return {tensor: file name} from an index file whose every name is safe."""
    index = strict_json(data, check_id=INDEX_CHECK, name=shown(name), max_bytes=_INDEX_LIMIT)
    if not isinstance(index, dict) or not {"weight_map"} <= index.keys() <= {"metadata", "weight_map"}:
        raise ArtefactError(INDEX_CHECK, f"{shown(name)}: fields", expected="metadata and weight_map")
    weight_map = index["weight_map"]
    if not isinstance(weight_map, dict) or not weight_map:
        raise ArtefactError(INDEX_CHECK, f"{shown(name)}: weight_map", expected="an object that is not empty")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise ArtefactError(INDEX_CHECK, f"{shown(name)}: file", expected="*.safetensors", found=shown(shard))
        relative_parts(shard, check_id=INDEX_CHECK)
    return weight_map


def _require_match(weight_map: dict[str, str], files: dict[str, TensorFile], name: str) -> None:
    """Refuse unless every tensor lies in exactly the file that the index names."""
    found: dict[str, str] = {}
    for shard, file in files.items():
        for tensor in file.tensors:
            if tensor in found:
                where = f"in {shown(found[tensor])} and {shown(shard)}"
                raise _mismatch(name, tensor, "is in two files", weight_map.get(tensor), where)
            found[tensor] = shard
    for tensor in sorted(weight_map.keys() | found.keys()):
        if weight_map.get(tensor) != found.get(tensor):
            if tensor not in found:
                reason = "is listed but missing"
            else:
                reason = "is not listed" if tensor not in weight_map else "is in another file than listed"
            raise _mismatch(name, tensor, reason, weight_map.get(tensor), shown(found.get(tensor)))


def _mismatch(name: str, tensor: str, reason: str, listed: str | None, found: str) -> ArtefactError:
    message = f"{shown(name)}: tensor {shown(tensor)} {reason}"
    return ArtefactError(INDEX_CHECK, message, expected=f"as listed: {shown(listed)}", found=found)


def _require_kind(status: os.stat_result, kind: int, name: str) -> None:
    found = stat.S_IFMT(status.st_mode)
    if found != kind:
        raise _refused(name, "not " + _KINDS[kind], expected=_KINDS[kind], found=_KINDS.get(found, "something else"))


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refused(name: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    remedy = "give a folder of real files (a linked cache can be copied with: cp -rL)" if "link" in found else ""
    return ArtefactError(CHECK, f"{shown(name)}: {reason}", expected=expected, found=found, remedy=remedy)
