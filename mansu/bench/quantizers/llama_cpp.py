"""Which type of block `llama-quantize` gives each tensor, of the file types Q4_0, Q8_0, Q4_K_S and Q4_K_M.

The rule of llama.cpp's `llama_tensor_get_type_impl` and `tensor_type_fallback` (src/llama-quant.cpp), without an
importance matrix and without overrides, for dense models; not restated are its exceptions for Falcon, for eight experts
and for the 70B Llama. Matrices are quantized, embeddings and output head too; norms and biases stay.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

from mansu.bench.quantizers.ggml import BLOCKS
from verify.errors import UsageError


class FileType(StrEnum):
    """File types of `llama-quantize`."""

    Q4_0 = "Q4_0"
    Q8_0 = "Q8_0"
    Q4_K_S = "Q4_K_S"
    Q4_K_M = "Q4_K_M"


_DEFAULT = {FileType.Q4_0: "Q4_0", FileType.Q8_0: "Q8_0", FileType.Q4_K_S: "Q4_K", FileType.Q4_K_M: "Q4_K"}
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")


def tensor_types(
    file_type: FileType, columns: dict[str, int], *, output: str, embedding: str, tied: bool, layers: int
) -> dict[str, str]:
    """Return the type of block for each weight: `columns` maps its name to the length of its rows.

    `output` and `embedding` are the names of these two weights; where they are `tied`, only the embedding exists. A
    tensor whose rows are no whole number of blocks falls back as in llama.cpp, "F16" where it is no multiple of 32.
    Raises `UsageError` ME363 where llama.cpp has no fallback.
    """
    default = _DEFAULT[file_type]
    return {
        name: _fallback(
            _head(default, length)
            if name == output or (tied and name == embedding)
            else _inner(file_type, name, layers),
            length,
            name,
        )
        for name, length in columns.items()
    }


def _head(default: str, length: int) -> str:
    if length % BLOCKS[default] or default == "Q8_0":
        return "Q8_0"
    return "Q6_K"


def _inner(file_type: FileType, name: str, layers: int) -> str:
    """Return the type of a weight inside a layer: values and down projections of some layers get more bits."""
    default = _DEFAULT[file_type]
    found = _LAYER.search(name)
    if found is None or default != "Q4_K":
        return default
    layer = int(found[1])
    value, down = _is(name, ("v_proj",)), _is(name, ("down_proj", "dense_4h_to_h", "mlp.c_proj"))
    if file_type is FileType.Q4_K_S:
        return "Q5_K" if (value and layer < 4) or (down and layer < layers // 8) else default
    if _is(name, ("qkv_proj", "query_key_value", "c_attn")):
        return "Q5_K"
    return "Q6_K" if (value or down) and _more_bits(layer, layers) else default


def _is(name: str, endings: Sequence[str]) -> bool:
    return name.removesuffix(".weight").endswith(tuple(endings))


def _more_bits(layer: int, layers: int) -> bool:
    """Tell the first and the last eighth of the layers, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _fallback(kind: str, length: int, name: str) -> str:
    if length % BLOCKS[kind] == 0:
        return kind
    if kind not in _FALLBACK:
        raise UsageError(
            f"llama.cpp has no {kind} for a weight of this shape",
            expected=f"rows of a multiple of {BLOCKS[kind]} values",
            found=f"{length} in {name}",
            remedy="leave this quantizer out: the model cannot be deployed so",
            error_id="ME363",
        )
    other = _FALLBACK[kind]
    return other if length % BLOCKS[other] == 0 else "F16"
