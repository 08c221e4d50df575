"""The files that a patch is made of or makes: copied or rewritten by the piece, and on the disk when written."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mansu.patch.rewriting import Rewritten, rewrite
from verify.artefact import Changes, OpenFile, open_regular, read_layout

_PIECE = 1 << 22


def copy_file(file: OpenFile, path: Path) -> str:
    """Copy a file by the piece; return its digest."""
    digest = hashlib.sha256()

    def write(sink: BinaryIO) -> None:
        for start in range(0, file.size, _PIECE):
            part = file.read(start, min(start + _PIECE, file.size))
            digest.update(part)
            sink.write(part)
        file.require_same_size()

    write_new(path, write)
    return digest.hexdigest()


def write_new(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a new file and have it on the disk; its folder gets its name only once all is there (`staging`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as sink:
        write(sink)
        sink.flush()
        os.fsync(sink.fileno())


def rewrite_file(
    root: Path, name: str, changes: Callable[[str], Changes | None], sink: BinaryIO | None = None
) -> Rewritten:
    """Put the changes of its tensors into a file, and write it to `sink` if there is one."""
    with open_regular(name, root=root) as file:
        return rewrite(file, read_layout(file.read, file.size, name=name), changes, sink)


def write_model_file(root: Path, name: str, folder: Path, changes: Callable[[str], Changes | None] | None) -> Rewritten:
    """Write a file of the model, with the changes of its tensors if it has any."""
    if changes is None:
        with open_regular(name, root=root) as file:
            digest = copy_file(file, folder / name)
        return Rewritten(digest, digest, {})
    found: list[Rewritten] = []
    write_new(folder / name, lambda sink: found.append(rewrite_file(root, name, changes, sink)))
    return found[0]
