"""A LoRA adapter over a base, merged tensor by tensor as `peft`'s `merge_and_unload` does on a CPU.

peft holds an adapter in float32, whatever it is stored in, when it loads it; the update of a layer is
(B · A) · scaling in float32, transposed for GPT-2's Conv1D; it is added to the stored weight in float32, and the sum is
rounded to the weight's dtype once. What changes more than that (DoRA, biases, embeddings, whole modules) is refused.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verify.artefact import open_regular, read_layout, read_regular, shown, strict_json
from verify.audit.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Weights
from verify.errors import UsageError
from verify.nf4.values import Bits

LARGEST_WHOLE = 1 << 26
"""Values of an update that are computed at once, as peft does; of a larger one, rows are computed as they are needed.

Then a sum may round in another order than peft's, by the last bit of a float32."""

_PREFIX = "base_model.model."
_TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_PLAIN = frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    ]
)
"""Keys of an adapter's configuration that are understood here, or change nothing of the merge."""
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""`init_lora_weights` of adapters that leave the base as it is; pissa, olora, corda and loftq change it on loading."""
_PATTERN = re.compile(r"[\w.^]+")
"""Patterns of names that cannot take long to match."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's update: the module that its factors are named by, and what their product is multiplied by.

    A is [r, columns], B [rows, r]; a `transposed` update is stored as [columns, rows].
    """

    module: str
    rows: int
    columns: int
    rank: int
    scaling: float
    transposed: bool


class Adapter:
    """The updates of an adapter whose file is open, by the name of the weight that each is added to."""

    def __init__(self, file: Weights, layers: Mapping[str, Layer]) -> None:
        self.layers = layers
        self._file = file
        self._whole: tuple[str, Tensor] | None = None

    def merged(self, name: str, start: int, base: Bits, dtype: str) -> Bits:
        """Return the merged bits of a weight from its stored ones, from flat index `start` on."""
        if name not in self.layers:
            return base
        delta = self._delta(name, self.layers[name], start, start + base.size)
        bits = base.view(f"i{base.dtype.itemsize}").copy()
        weight = torch.from_numpy(bits).view(_TORCH[dtype])
        weight += delta  # in float32, then rounded to the weight's dtype: torch's promotion, as in peft's merge
        merged: Bits = bits.view(base.dtype)
        return merged

    def _delta(self, name: str, layer: Layer, start: int, stop: int) -> Tensor:
        if layer.rows * layer.columns <= LARGEST_WHOLE:
            if self._whole is None or self._whole[0] != name:
                self._whole = None  # before the next one is made: only one is in memory
                self._whole = (name, self._product(layer, slice(None)).reshape(-1))
            return self._whole[1][start:stop]
        width = layer.rows if layer.transposed else layer.columns
        first = start // width
        part = self._product(layer, slice(first, -(-stop // width))).reshape(-1)
        return part[start - first * width : stop - first * width]

    def _product(self, layer: Layer, rows: slice) -> Tensor:
        """Return rows of the update as it is stored, float32."""
        a, b = (self._factor(layer, side) for side in "AB")
        if layer.transposed:
            return (b @ a[:, rows]).mul_(layer.scaling).T.contiguous()
        return (b[rows] @ a).mul_(layer.scaling)

    def _factor(self, layer: Layer, side: str) -> Tensor:
        name = f"{layer.module}.lora_{side}.weight"
        view = self._file.view(name)
        bits = self._file.read(name, 0, view.count)
        values = torch.from_numpy(bits.view(f"i{bits.dtype.itemsize}")).view(_TORCH[view.dtype])
        return values.reshape(view.shape).float()


@contextmanager
def open_adapter(folder: Path, base: Weights, transposed: frozenset[str]) -> Iterator[Adapter]:
    """Open an adapter and fit it to its base; `transposed` names the weights that are stored as [in, out].

    Raises UsageError ME293 for whatever cannot be merged exactly as peft does, ArtefactError MV101 and MV110 for files
    that cannot be read.
    """
    config = strict_json(
        read_regular(ADAPTER_CONFIG, root=folder, limit=1 << 24), check_id="MV106", name=ADAPTER_CONFIG
    )
    if not isinstance(config, dict):
        raise _refused("its configuration is no object", "an object", shown(config))
    _require_plain(config)
    if not (folder / ADAPTER_WEIGHTS).exists():
        raise _refused("it has no weights in safetensors", ADAPTER_WEIGHTS, "no such file")
    with open_regular(ADAPTER_WEIGHTS, root=folder) as file:
        tensors = read_layout(file.read, file.size, name=ADAPTER_WEIGHTS).tensors
        modules = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
        odd = sorted(tensors.keys() ^ {f"{module}.lora_{side}.weight" for module in modules for side in "AB"})
        if odd or not modules:
            expected = "lora_A.weight and lora_B.weight of each layer"
            raise _refused("its tensors are not those of plain LoRA", expected, shown(odd[0] if odd else "no tensor"))
        factors = Weights({name: (file, view) for name, view in tensors.items()})
        layers = {}
        for module in sorted(modules):
            name = module.removeprefix(_PREFIX)
            layers[f"{name}.weight"] = _layer(factors, module, name, config, base, transposed)
        yield Adapter(factors, layers)
        file.require_same_size()


def _layer(
    file: Weights, module: str, name: str, config: Mapping[str, Any], base: Weights, transposed: frozenset[str]
) -> Layer:
    a, b = (file.view(f"{module}.lora_{side}.weight") for side in "AB")
    weight = f"{name}.weight"
    if weight not in base.tensors:
        raise _refused(f"the base has no weight for {shown(name)}", "a layer of the base", "no such tensor")
    view, turned = base.view(weight), weight in transposed
    rank = _by_pattern(config, "rank_pattern", name, config["r"])
    alpha = _by_pattern(config, "alpha_pattern", name, config["lora_alpha"])
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float):
        raise _refused("r or lora_alpha is no number", "a positive integer, and a number", shown([rank, alpha]))
    fits = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] == rank
    rows, columns = (b.shape[0], a.shape[1]) if fits else (0, 0)
    if not fits or ((columns, rows) if turned else (rows, columns)) != view.shape:
        found = f"A {list(a.shape)}, B {list(b.shape)}, rank {rank}, weight {list(view.shape)}"
        raise _refused(f"{shown(name)} does not fit its weight", "A [r, in] and B [out, r]", found)
    if not {view.dtype, a.dtype, b.dtype} <= _TORCH.keys():
        found = f"weight {view.dtype}, A {a.dtype}, B {b.dtype}"
        raise _refused(f"{shown(name)} is of another type", " or ".join(_TORCH), found)
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Layer(module, rows, columns, rank, scaling, turned)


def _require_plain(config: Mapping[str, Any]) -> None:
    """Refuse an adapter whose configuration asks for anything that is not understood here."""
    if config.get("peft_type") != "LORA":
        raise _refused("it is no LoRA adapter", "peft_type LORA", shown(config.get("peft_type")))
    for key in ("r", "lora_alpha"):
        if key not in config:
            raise _refused(f"its configuration lacks {key}", "r and lora_alpha", f"no {key}")
    if config.get("bias", "none") != "none":
        raise _refused("it changes biases", "bias none", shown(config["bias"]))
    start = config.get("init_lora_weights")
    if not (start is None or isinstance(start, bool | str)) or start not in _STARTS:
        raise _refused("it changes the base's weights when it is loaded", "a plain init_lora_weights", shown(start))
    for key, value in sorted(config.items()):
        if key == "use_dora" and value:
            raise _refused("it is a DoRA adapter, whose magnitudes are no sum", "use_dora false", "use_dora true")
        if key not in _PLAIN and value not in (None, False, [], {}, ""):
            raise _refused("it asks for what is not merged here", f"no {shown(key)}", shown(value))


def _by_pattern(config: Mapping[str, Any], key: str, name: str, default: Any) -> Any:
    """Return a layer's own rank or alpha where a pattern names it: peft takes the first that matches the name's end."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise _refused(f"{key} is no object", "names and numbers", shown(patterns))
    for pattern, value in patterns.items():
        if not _PATTERN.fullmatch(pattern):
            raise _refused(f"{key} names layers by a regular expression", "plain names", shown(pattern))
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _refused(what: str, expected: str, found: str) -> UsageError:
    return UsageError(
        f"the adapter cannot be merged: {what}",
        expected=expected,
        found=found,
        remedy="merge it with peft (merge_and_unload), save the model, and audit that folder",
        error_id="ME293",
    )
