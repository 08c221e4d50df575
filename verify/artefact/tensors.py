"""A strict safetensors reader: the header first, for files of any size, or one in-memory buffer as a whole.

Stricter than the library on purpose (safetensors 0.8 lets the last of two equal tensor names win and takes 18 s
over a 99 MB header): a file has one reading or none. Source: the safetensors format description.
"""

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from verify.artefact.envelope import shown, strict_json
from verify.errors import ArtefactError

CHECK = "MV110"
MISFIT = "MV121"
MAX_HEADER = 25_000_000
MAX_RANK = 16
MAX_BYTES = 2**63 - 1

SIZES: dict[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes an element, by the safetensors names of the types read here."""

_FOREIGN = (
    (b"PK\x03\x04", "a zip archive, as pickled checkpoints are"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


@dataclass(frozen=True)
class TensorView:
    """Where a tensor lies. `start` and `stop` are byte offsets from the beginning of the *file*."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What a file's header says: its tensors, its metadata, and its exact size in bytes.

    `head` is all that precedes the tensors, as it was parsed: whoever hashes the file hashes these bytes, for a second
    reading could give others.
    """

    name: str
    tensors: dict[str, TensorView]
    metadata: dict[str, str]
    size: int
    head: bytes = field(repr=False)


@dataclass(frozen=True)
class TensorFile(Layout):
    """A parsed file in memory. `data` is the whole file, read-only; `sha256` is the digest of exactly these bytes."""

    data: memoryview
    sha256: str


def parse(data: bytes | memoryview, *, name: str) -> TensorFile:
    """Parse a safetensors file held in memory; `name` is for messages.

    Raises ArtefactError MV110 with the reason for whatever is not one exact, gapless file of known types.
    """
    view = memoryview(data).cast("B").toreadonly()
    found = read_layout(lambda start, stop: view[start:stop], len(view), name=name)
    digest = hashlib.sha256(view).hexdigest()
    return TensorFile(found.name, found.tensors, found.metadata, found.size, found.head, view, digest)


def read_layout(read: Callable[[int, int], bytes | memoryview], size: int, *, name: str) -> Layout:
    """Parse the header of a safetensors file of `size` bytes, of which `read(start, stop)` gives any part.

    Nothing but the header is read. Raises ArtefactError MV110 as `parse` does.
    """
    header, head = _header(read, size, name)
    start = len(head)
    metadata = _metadata(header.pop("__metadata__", {}), name)
    tensors = {key: _tensor(key, entry, start, name) for key, entry in header.items()}
    _require_tiling(tensors, start, size, name)
    return Layout(name, tensors, metadata, size, head)


def _header(read: Callable[[int, int], bytes | memoryview], size: int, name: str) -> tuple[dict[str, object], bytes]:
    """Return the header object and the bytes that hold it, up to the data section."""
    if size < 8:
        raise _refused(name, "shorter than the 8-byte header length", found=f"{size} bytes")
    begin = bytes(read(0, min(size, 32)))
    (length,) = struct.unpack_from("<Q", begin)
    if length > MAX_HEADER or 8 + length > size or begin[8:9] != b"{":
        raise _not_a_header(begin, length, size, name)
    head = bytes(read(0, 8 + length))
    if head[: len(begin)] != begin[: len(head)]:
        raise _refused(name, "the header changed while it was read")
    header = strict_json(head[8:], check_id=CHECK, name=shown(name), max_bytes=MAX_HEADER)
    if not isinstance(header, dict):
        raise _refused(name, "the header is not an object")
    return header, head


def _not_a_header(begin: bytes, length: int, size: int, name: str) -> ArtefactError:
    """Say what is wrong with the first bytes.

    Foreign formats are named only here: 0x80 0x02 also begins a good file whose header has 640 bytes.
    """
    for magic, kind in _FOREIGN:
        if begin.startswith(magic):
            return _refused(name, f"looks like {kind}", found=shown(begin[:8]))
    if length > MAX_HEADER:
        return _refused(name, "header too large", expected=f"at most {MAX_HEADER} bytes", found=f"{length} bytes")
    if 8 + length > size:
        return _refused(name, "the header runs past the end", found=f"{length} of {size - 8} bytes")
    return _refused(name, "the header does not begin with '{'", found=shown(begin[8:16]))


def _metadata(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _refused(name, "metadata must map strings to strings", found=shown(value))
    return value


def _tensor(key: str, entry: object, base: int, name: str) -> TensorView:
    """Check one header entry on its own; `base` is where the data section begins."""
    if not key or not key.isprintable():
        raise _refused(name, "a tensor name is empty or has control characters", found=shown(key))
    label = f"tensor {shown(key)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refused(name, f"{label}: fields", expected="exactly dtype, shape, data_offsets", found=shown(entry))
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise _refused(name, f"{label}: unknown dtype", expected=", ".join(SIZES), found=shown(dtype))
    if not _is_naturals(shape) or len(shape) > MAX_RANK:
        raise _refused(
            name, f"{label}: shape", expected=f"at most {MAX_RANK} non-negative integers", found=shown(shape)
        )
    if not _is_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refused(name, f"{label}: data_offsets", expected="[begin, end], begin <= end", found=shown(offsets))
    size = SIZES[dtype]
    # A zero elsewhere in the shape must not hide a product that overflows 64 bits in another reader.
    if math.prod(extent for extent in shape if extent) * size > MAX_BYTES:
        raise _refused(name, f"{label}: shape overflows 64 bits", found=shown(shape))
    needed = math.prod(shape) * size
    if offsets[1] - offsets[0] != needed:
        found = f"{offsets[1] - offsets[0]} bytes"
        raise _refused(
            name, f"{label}: data_offsets do not fit shape and dtype", expected=f"{needed} bytes", found=found
        )
    return TensorView(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _is_naturals(value: object) -> bool:
    # `type`, not isinstance: JSON's true is an int to Python
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _require_tiling(tensors: dict[str, TensorView], start: int, end: int, name: str) -> None:
    """Refuse overlaps, holes, missing and trailing bytes: the tensors cover the data section exactly."""
    position = start
    for key, view in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if view.start != position:
            kind = "overlaps another tensor" if view.start < position else "leaves a hole before it"
            found = f"byte {view.start - start}"
            raise _refused(name, f"tensor {shown(key)} {kind}", expected=f"byte {position - start}", found=found)
        position = view.stop
    if position != end:
        kind = "bytes after the last tensor" if position < end else "the data section is cut short"
        raise _refused(name, kind, expected=f"{position - start} bytes of data", found=f"{end - start} bytes")


def _refused(name: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    remedy = "obtain the file again from its producer"
    return ArtefactError(CHECK, f"{shown(name)}: {reason}", expected=expected, found=found, remedy=remedy)
