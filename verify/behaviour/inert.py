"""A model folder that only holds data: nothing in it runs when it is loaded, or changes what is loaded."""

import json
from collections.abc import Mapping

from verify.errors import ArtefactError

CHECK = "MV106"
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(6)))
_ACTIVE = {
    "auto_map": "loads code",
    "quantization_config": "quantizes on loading",
    "compression_config": "quantizes on loading",
}
_OTHER_WEIGHTS = (
    ".bin", ".ckpt", ".gguf", ".ggml", ".h5", ".joblib", ".keras", ".msgpack", ".nemo", ".npy", ".npz", ".onnx",
    ".onnx_data", ".pickle", ".pkl", ".pt", ".pth", ".tflite",
)  # fmt: skip
"""Names of weights in other formats: what reads them deploys another model than the one examined, or runs code."""


def refuse_code(files: Mapping[str, bytes]) -> None:
    """Raise ArtefactError MV106 where a folder's files (name → bytes) would run code or change the weights on loading.

    That is Python files, pickles and archives by content, weights that are not safetensors, adapters, and
    configurations that name code or a quantizer at any depth.
    """
    for name, data in files.items():
        if name.endswith(".py"):
            raise _refused("it carries Python code", name)
        if data.startswith(_PICKLES):
            raise _refused("it carries a pickle or an archive, which can run code when it is loaded", name)
        if name.lower().endswith(_OTHER_WEIGHTS) or data.startswith(b"GGUF"):
            raise _refused("it carries weights in another format, which nobody examined", name)
        if name.rsplit("/", 1)[-1] == "adapter_config.json":
            raise _refused("it carries an adapter, which loaders apply on top of the weights", name)
        if name.endswith("config.json"):
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise _refused("a configuration is not JSON", name) from error
            for key in sorted(_keys(value) & _ACTIVE.keys()):
                raise _refused(f"its configuration {_ACTIVE[key]} ({key})", name)


def _keys(value: object) -> set[str]:
    """Return the keys of all objects in a JSON value."""
    keys: set[str] = set()
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            keys |= part.keys()
            left += part.values()
        elif isinstance(part, list):
            left += part
    return keys


def _refused(what: str, name: str) -> ArtefactError:
    return ArtefactError(
        CHECK,
        f"the model folder cannot be used: {what}",
        expected="configuration, tokenizer and weights in safetensors, no code",
        found=ascii(name),
        remedy="do not deploy this folder; ask the producer for one that loads without code",
    )
