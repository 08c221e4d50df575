"""Models as bitsandbytes saves them in NF4: made with transformers, never by hand; and tools to spoil one."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

STATE = ".quant_state.bitsandbytes__nf4"


def deploy(
    model: Path,
    out: Path,
    *,
    double: bool = False,
    dtype: torch.dtype | None = None,
    quant_type: str = "nf4",
    compute: torch.dtype = torch.float32,
    skip: list[str] | None = None,
    shard_size: str = "1GB",
) -> Path:
    """Quantize a model folder with transformers and bitsandbytes on the CPU, and save it as they do."""
    wanted = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=skip,
    )
    kind = {} if dtype is None else {"dtype": dtype}
    loaded = AutoModelForCausalLM.from_pretrained(model, quantization_config=wanted, **kind)
    loaded.save_pretrained(out, max_shard_size=shard_size)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (model / name).exists():
            (out / name).write_bytes((model / name).read_bytes())
    return out


Tensors = dict[str, tuple[str, list[int], bytes]]
"""Tensor → dtype, shape, bytes."""


def tensors_of(folder: Path) -> Tensors:
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def write_tensors(folder: Path, tensors: Mapping[str, tuple[str, list[int], bytes]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def with_bytes(folder: Path, name: str, change: Callable[[bytearray], object]) -> None:
    """Change the bytes of one tensor in place."""
    tensors = tensors_of(folder)
    dtype, shape, data = tensors[name]
    buffer = bytearray(data)
    change(buffer)
    tensors[name] = (dtype, shape if len(buffer) == len(data) else [len(buffer)], bytes(buffer))
    write_tensors(folder, tensors)


def with_state(folder: Path, weight: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON of one weight's quantization state."""

    def edit(buffer: bytearray) -> None:
        value = json.loads(bytes(buffer))
        change(value)
        buffer[:] = json.dumps(value).encode()

    with_bytes(folder, weight + STATE, edit)


def with_config(folder: Path, change: Callable[[dict[str, Any]], object], name: str = "config.json") -> None:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))
