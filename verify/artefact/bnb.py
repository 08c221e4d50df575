"""What bitsandbytes saves for a 4-bit weight: the tensors beside it, and its quantization state, read strictly.

For a weight `X.weight` these are the packed codes under that name (uint8 [⌈n/2⌉, 1], the first of two codes in the high
nibble), `.absmax`, `.quant_map`, `.quant_state.bitsandbytes__nf4` (JSON in uint8) and, with double quantization,
`.nested_absmax` and `.nested_quant_map`. Source: `QuantState.as_dict(packed=True)` of bitsandbytes 0.50.2, and the
files that `save_pretrained` of transformers 5.24 writes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from verify.artefact.envelope import shown, strict_json
from verify.artefact.tensors import TensorView
from verify.errors import ArtefactError

CHECK = "MV704"
STATE = ".quant_state.bitsandbytes__"
ABSMAX, MAP = ".absmax", ".quant_map"
NESTED_ABSMAX, NESTED_MAP = ".nested_absmax", ".nested_quant_map"
MAX_STATE = 4096
"""Bytes of a state; the library writes fewer than 200."""
MAX_RANK = 8
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
NESTED_BLOCK = 256
_LARGEST = float(np.finfo(np.float32).max)
_FIELDS = frozenset(["quant_type", "blocksize", "dtype", "shape"])
_NESTED = frozenset(["nested_blocksize", "nested_dtype", "nested_offset"])


@dataclass(frozen=True, slots=True)
class State:
    """A weight's quantization state. `dtype` (BF16, F16, F32) is what it was quantized from, `shape` its matrix.

    `offset` is the mean that nested statistics subtract, a float32; None where the scales are plain float32.
    """

    quant_type: str
    block_size: int
    dtype: str
    shape: tuple[int, ...]
    offset: float | None

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.block_size)


def states_of(tensors: Mapping[str, TensorView]) -> dict[str, str]:
    """Return the weights that a state is stored for, weight → name of the state's tensor, in order of name.

    Raises ArtefactError MV704 for two states of one weight, and for one that is no uint8 [n] of `MAX_STATE` at most.
    """
    found: dict[str, str] = {}
    for name in sorted(tensors):
        weight, mark, _ = name.partition(STATE)
        if not mark:
            continue
        if weight in found:
            raise _refused(weight, "two quantization states", found=f"{shown(found[weight])} and {shown(name)}")
        view = tensors[name]
        if view.dtype != "U8" or len(view.shape) != 1 or not 0 < view.count <= MAX_STATE:
            expected = f"U8 [n], at most {MAX_STATE}"
            raise _refused(weight, "quantization state", expected=expected, found=f"{view.dtype} {list(view.shape)}")
        found[weight] = name
    return found


def parse_state(data: bytes, *, weight: str, tensor: str) -> State:
    """Read the state of a weight, stored as `tensor`.

    Raises ArtefactError MV704 for anything but strict JSON of exactly the known fields with sensible values.
    """
    value = strict_json(data, check_id=CHECK, name=f"the state of {shown(weight)}", max_bytes=MAX_STATE)
    if not isinstance(value, dict) or value.keys() not in (_FIELDS, _FIELDS | _NESTED):
        raise _refused(weight, "fields of its state", expected=", ".join(sorted(_FIELDS)), found=shown(value))
    kind, block, dtype, shape = (value[name] for name in ("quant_type", "blocksize", "dtype", "shape"))
    stored_as = tensor.partition(STATE)[2]
    if kind not in ("nf4", "fp4") or kind != stored_as:
        expected = f"{stored_as}, as its name says"
        raise _refused(weight, "quant_type of its state", expected=shown(expected), found=shown(kind))
    if type(block) is not int or block not in BLOCK_SIZES:
        raise _refused(weight, "blocksize of its state", expected=f"one of {BLOCK_SIZES}", found=shown(block))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _refused(weight, "dtype of its state", expected=f"one of {', '.join(DTYPES)}", found=shown(dtype))
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_RANK or not all(_is_extent(side) for side in shape):
        raise _refused(weight, "shape of its state", expected="positive integers", found=shown(shape))
    offset = _offset(value, weight) if value.keys() & _NESTED else None
    return State(kind, block, DTYPES[dtype], tuple(shape), offset)


def _offset(value: Mapping[str, object], weight: str) -> float:
    """Return the offset of nested statistics; bitsandbytes knows one form of these."""
    block, dtype = value["nested_blocksize"], value["nested_dtype"]
    if type(block) is not int or block != NESTED_BLOCK or dtype != "float32":
        expected, found = f"blocks of {NESTED_BLOCK}, float32", f"blocks of {shown(block)}, {shown(dtype)}"
        raise _refused(weight, "nested statistics of its state", expected=expected, found=found)
    number = value["nested_offset"]
    offset = float(number) if isinstance(number, int | float) and not isinstance(number, bool) else math.nan
    if not abs(offset) <= _LARGEST or float(np.float32(offset)) != offset:
        raise _refused(weight, "nested_offset of its state", expected="a finite float32", found=shown(number))
    return offset


def _is_extent(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 40


def _refused(weight: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    remedy = "do not deploy the file; quantize the certified model again and save it with save_pretrained"
    return ArtefactError(CHECK, f"{shown(weight)}: {reason}", expected=expected, found=found, remedy=remedy)
