"""A strict safetensors reader over one in-memory buffer: what is hashed is what is parsed and used.

Stricter than the library on purpose (safetensors 0.8 lets the last of two equal tensor names win and takes 18 s
over a 99 MB header): a file has one reading or none. Source: the safetensors format description.
"""

import hashlib
import math
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from verify.artefact.envelope import shown, strict_json
from verify.errors import ArtefactError

CHECK = "MV110"
MISFIT = "MV121"
MAX_HEADER = 25_000_000
MAX_RANK = 16
MAX_BYTES = 2**63 - 1

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""The element types read here, by their safetensors names."""

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
class TensorFile:
    """A parsed file. `data` is the whole file, read-only; `sha256` is the digest of exactly these bytes."""

    name: str
    tensors: dict[str, TensorView]
    metadata: dict[str, str]
    data: memoryview
    sha256: str


def parse(data: bytes | memoryview, *, name: str) -> TensorFile:
    """Parse a safetensors file held in memory; `name` is for messages.

    Raises ArtefactError MV110 with the reason for whatever is not one exact, gapless file of known types.
    """
    view = memoryview(data).cast("B").toreadonly()
    header, start = _header(view, name)
    metadata = _metadata(header.pop("__metadata__", {}), name)
    tensors = {key: _tensor(key, entry, start, name) for key, entry in header.items()}
    _require_tiling(tensors, start, len(view), name)
    return TensorFile(name, tensors, metadata, view, hashlib.sha256(view).hexdigest())


def as_torch(file: TensorFile, tensor: str) -> torch.Tensor:
    """Return a tensor of the file, without a copy when its bytes are aligned and the host is little-endian.

    The result shares memory with `file.data`: clone it before writing. Raises ArtefactError MV110 when absent.
    """
    view = file.tensors.get(tensor)
    if view is None:
        raise _refused(file.name, f"no tensor named {shown(tensor)}")
    dtype = DTYPES[view.dtype]
    if view.count == 0:
        return torch.empty(view.shape, dtype=dtype)
    native = np.require(_elements(file.data, view), dtype=f"=u{dtype.itemsize}", requirements="A")
    with warnings.catch_warnings():
        # The buffer is read-only by design; the docstring passes the warning on.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        bits = torch.from_numpy(native)
    return bits.view(dtype).reshape(view.shape)


def overwrite(data: bytearray, file: TensorFile, tensor: str, indices: torch.Tensor, values: torch.Tensor) -> None:
    """Write `values` [n] (the tensor's own dtype) at the flat row-major `indices` [n] (int64) of `tensor`, in place.

    `data` is a copy of `file.data`; every other byte stays. Raises ArtefactError MV121 when the tensor is unknown,
    an index is out of range, or dtypes or lengths do not match; `data` is untouched then.
    """
    view = file.tensors.get(tensor)
    if view is None:
        raise _misfit(file, tensor, "no such tensor in the file")
    if len(data) != len(file.data):
        raise _misfit(file, tensor, "the buffer is not a copy of the file", f"{len(file.data)} bytes", str(len(data)))
    if values.dtype != DTYPES[view.dtype]:
        raise _misfit(file, tensor, "dtype differs from the file's", view.dtype, str(values.dtype))
    if indices.dtype != torch.int64 or indices.ndim != 1 or indices.shape != values.shape:
        raise _misfit(file, tensor, "indices must be int64 [n], as values", found=f"{indices.dtype} {indices.shape}")
    if indices.numel() == 0:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= view.count:
        raise _misfit(file, tensor, "index out of range", f"0 to {view.count - 1}", f"{low} to {high}")
    size = values.dtype.itemsize
    bits = values.detach().contiguous().view(getattr(torch, f"uint{8 * size}")).numpy()
    _elements(data, view)[indices.numpy()] = bits


def _elements(data: memoryview | bytearray, view: TensorView) -> np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]:
    """Return a tensor's elements as little-endian unsigned integers, sharing memory with `data`."""
    dtype = np.dtype(f"<u{DTYPES[view.dtype].itemsize}")
    return np.frombuffer(data, dtype=dtype, count=view.count, offset=view.start)


def _header(view: memoryview, name: str) -> tuple[dict[str, object], int]:
    """Return the header object and the file offset of the data section."""
    if len(view) < 8:
        raise _refused(name, "shorter than the 8-byte header length", found=f"{len(view)} bytes")
    (length,) = struct.unpack_from("<Q", view)
    if length > MAX_HEADER or 8 + length > len(view) or bytes(view[8:9]) != b"{":
        raise _not_a_header(view, length, name)
    header = strict_json(bytes(view[8 : 8 + length]), check_id=CHECK, name=shown(name), max_bytes=MAX_HEADER)
    if not isinstance(header, dict):
        raise _refused(name, "the header is not an object")
    return header, 8 + length


def _not_a_header(view: memoryview, length: int, name: str) -> ArtefactError:
    """Say what is wrong with the first bytes.

    Foreign formats are named only here: 0x80 0x02 also begins a good file whose header has 640 bytes.
    """
    for magic, kind in _FOREIGN:
        if bytes(view[: len(magic)]) == magic:
            return _refused(name, f"looks like {kind}", found=shown(bytes(view[:8])))
    if length > MAX_HEADER:
        return _refused(name, "header too large", expected=f"at most {MAX_HEADER} bytes", found=f"{length} bytes")
    if 8 + length > len(view):
        return _refused(name, "the header runs past the end", found=f"{length} of {len(view) - 8} bytes")
    return _refused(name, "the header does not begin with '{'", found=shown(bytes(view[8:16])))


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
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _refused(name, f"{label}: unknown dtype", expected=", ".join(DTYPES), found=shown(dtype))
    if not _is_naturals(shape) or len(shape) > MAX_RANK:
        raise _refused(
            name, f"{label}: shape", expected=f"at most {MAX_RANK} non-negative integers", found=shown(shape)
        )
    if not _is_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refused(name, f"{label}: data_offsets", expected="[begin, end], begin <= end", found=shown(offsets))
    size = DTYPES[dtype].itemsize
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


def _misfit(file: TensorFile, tensor: str, reason: str, expected: str = "", found: str = "") -> ArtefactError:
    message = f"{shown(file.name)}, tensor {shown(tensor)}: {reason}"
    return ArtefactError(MISFIT, message, expected=expected, found=found)
