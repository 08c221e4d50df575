"""A model folder that only holds data: nothing in it runs when it is loaded, or changes what is loaded."""

import json
from collections.abc import Mapping

from verify.errors import ArtefactError

CHECK = "MV106"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ACTIVE = {"auto_map": "loads code", "quantization_config": "quantizes on loading"}


def refuse_code(files: Mapping[str, bytes]) -> None:
    """Raise ArtefactError MV106 where a folder's files (name → bytes) would run code or change the weights on loading.

    That is Python files, pickles and archives by content, adapters, and configurations that name code or a quantizer.
    """
    for name, data in files.items():
        if name.endswith(".py"):
            raise _refused("it carries Python code", name)
        if data.startswith(_PICKLES):
            raise _refused("it carries a pickle or an archive, which can run code when it is loaded", name)
        if name.rsplit("/", 1)[-1] == "adapter_config.json":
            raise _refused("it carries an adapter, which loaders apply on top of the weights", name)
        if name.endswith("config.json"):
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise _refused("a configuration is not JSON", name) from error
            for key, what in _ACTIVE.items():
                if isinstance(value, dict) and key in value:
                    raise _refused(f"its configuration {what} ({key})", name)


def _refused(what: str, name: str) -> ArtefactError:
    return ArtefactError(
        CHECK,
        f"the model folder cannot be used: {what}",
        expected="configuration, tokenizer and weights in safetensors, no code",
        found=ascii(name),
        remedy="do not deploy this folder; ask the producer for one that loads without code",
    )
