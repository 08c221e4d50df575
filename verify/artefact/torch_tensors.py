"""Tensors of a parsed file as torch tensors, and values written over those of a copy of the file."""

import warnings

import numpy as np
import torch

from verify.artefact.envelope import shown
from verify.artefact.tensors import CHECK, MISFIT, TensorFile, TensorView
from verify.errors import ArtefactError

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


def as_torch(file: TensorFile, tensor: str) -> torch.Tensor:
    """Return a tensor of the file, without a copy when its bytes are aligned and the host is little-endian.

    The result shares memory with `file.data`: clone it before writing. Raises ArtefactError MV110 when absent.
    """
    view = file.tensors.get(tensor)
    if view is None:
        remedy = "obtain the file again from its producer"
        raise ArtefactError(CHECK, f"{shown(file.name)}: no tensor named {shown(tensor)}", remedy=remedy)
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


def _misfit(file: TensorFile, tensor: str, reason: str, expected: str = "", found: str = "") -> ArtefactError:
    message = f"{shown(file.name)}, tensor {shown(tensor)}: {reason}"
    return ArtefactError(MISFIT, message, expected=expected, found=found)
