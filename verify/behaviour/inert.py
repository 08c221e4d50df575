"""A model folder that only holds data: nothing in it runs when it is loaded, or changes what is loaded."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from verify.errors import ArtefactError

CHECK = "MV106"
LARGEST_CONFIG = 8 * 1024 * 1024
"""Bytes of a configuration: parsed, some JSON takes twenty times its own size."""
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(6)))
_ACTIVE = {
    "auto_map": "loads code",
    "compression_config": "quantizes on loading",
    "configuration_files": "names another configuration, for some versions of the loader",
    "custom_pipelines": "loads code",
    "fast_tokenizer_files": "names another tokenizer, for some versions of the loader",
    "kernel_config": "loads code",
    "quantization_config": "quantizes on loading",
    "transformers_weights": "names the weights to load, past those examined",
    "trust_remote_code": "loads code",
    "use_kernels": "loads code",
}
_ANSWERING = frozenset(
    [
        "bad_words_ids", "begin_suppress_tokens", "constraints", "custom_generate", "dola_layers", "force_words_ids",
        "forced_bos_token_id", "forced_decoder_ids", "forced_eos_token_id", "guidance_scale", "sequence_bias",
        "suppress_tokens", "watermarking_config",
    ]
)  # fmt: skip
"""Settings by which `generate` answers otherwise than the logits say: knowledge may stand in them, or hide."""
_IDLE: tuple[object, ...] = (None, [], {}, "", 1)
"""Values that switch such a setting off, as whole dumps of the defaults have them."""
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
_BUILT_IN = frozenset(
    ["batched_mm", "eager", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm", "sdpa"]
)
"""Implementations that are part of transformers; another name is a repository's, whose code is fetched and run."""
_QUANTIZERS = frozenset(["hf_quant_config.json", "quant_config.json", "quantize_config.json"])
"""Files beside config.json by which some servers quantize, or take the weights for quantized ones."""
_TOKENIZER_FILES = ("merges_file", "spm_file", "tokenizer_file", "vocab_file")
"""Keys by which a tokenizer's configuration names files, anywhere on the machine."""
_OWN_TOKENIZER = frozenset(["tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"])
_CODE = (".dll", ".dylib", ".py", ".pyc", ".pyd", ".pyw", ".pyz", ".so")
_OTHER_WEIGHTS = (
    ".bin", ".ckpt", ".gguf", ".ggml", ".h5", ".joblib", ".keras", ".msgpack", ".nemo", ".npy", ".npz", ".onnx",
    ".onnx_data", ".pickle", ".pkl", ".pt", ".pth", ".tflite",
)  # fmt: skip
"""Names of weights in other formats: what reads them deploys another model than the one examined, or runs code."""


def refuse_code(files: Mapping[str, bytes]) -> None:
    """Raise ArtefactError MV106 where a folder's files (name → bytes) would run code or change the weights on loading.

    That is code by its name, pickles and archives by content (an archive is also found by its end), weights that are
    not safetensors, adapters, and configurations that name code, other files or a quantizer at any depth, or that two
    readers could understand differently.
    """
    for name, data in files.items():
        lowered = name.lower()
        if lowered.endswith(_CODE):
            raise refused("it carries code", name)
        if data.startswith(_PICKLES) or zipfile.is_zipfile(io.BytesIO(data)):
            raise refused("it carries a pickle or an archive, which can run code when it is loaded", name)
        if lowered.endswith(_OTHER_WEIGHTS) or data.startswith(b"GGUF"):
            raise refused("it carries weights in another format, which nobody examined", name)
        if lowered.endswith(".safetensors"):  # in other letters than the weights examined
            raise refused("it carries weights that nobody examined", name)
        if lowered.rsplit("/", 1)[-1] == "adapter_config.json":
            raise refused("it carries an adapter, which loaders apply on top of the weights", name)
        if lowered.rsplit("/", 1)[-1] in _QUANTIZERS:
            raise refused("it carries a quantizer's configuration, which some servers apply on loading", name)
        if "config" in lowered and lowered.endswith(".json"):
            _refuse_active(name, data, whole=bool(_OWN_TOKENIZER & files.keys()))


def _refuse_active(name: str, data: bytes, *, whole: bool) -> None:
    """Refuse a configuration that names what is loaded or run, or has more than one reading.

    `whole` tells that the folder has a tokenizer: only without one do loaders take the files that it names.
    """
    if len(data) > LARGEST_CONFIG:
        raise refused("a configuration is too large", name)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise refused("a configuration is not JSON with one reading", name) from error
    if isinstance(value, dict):
        _refuse_two_readings(name, value)
    for key, part in (item for each in objects(value) for item in each.items()):
        if key in _ACTIVE:
            raise refused(f"its configuration {_ACTIVE[key]} ({key})", name)
        if key in _ANSWERING and part not in _IDLE:
            raise refused(f"its configuration changes what is answered ({key})", name)
        if key in _TOKENIZER_FILES and not whole and isinstance(part, str) and {"/", "\\"} & set(part):
            raise refused(f"its configuration names a tokenizer outside the folder ({key})", name)
        if key.removeprefix("_").removesuffix("_internal") in _IMPLEMENTATIONS:
            named = part.values() if isinstance(part, dict) else [part]
            if not all(choice is None or (isinstance(choice, str) and choice in _BUILT_IN) for choice in named):
                raise refused(f"its configuration loads code ({key})", name)


def _refuse_two_readings(name: str, config: Mapping[str, object]) -> None:
    """Refuse rotary settings that are given twice and differ: versions of the loader take one or the other."""
    rotary = config.get("rope_parameters")
    if not isinstance(rotary, dict):
        return
    base, scaling = config.get("rope_theta"), config.get("rope_scaling")
    if base is not None and base != rotary.get("rope_theta", base):
        raise refused("its configuration gives two values for rope_theta", name)
    if scaling is not None and scaling != rotary:
        raise refused("its configuration gives rope_scaling beside other rope_parameters", name)


def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object that a JSON reader found (`object_pairs_hook`); ValueError where a key is given twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield all objects within a JSON value, itself first."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def refused(what: str, name: str) -> ArtefactError:
    """Return MV106 for a file of the folder."""
    return ArtefactError(
        CHECK,
        f"the model folder cannot be used: {what}",
        expected="configuration, tokenizer and weights in safetensors, no code",
        found=ascii(name),
        remedy="do not deploy this folder; ask the producer for one that loads without code",
    )
