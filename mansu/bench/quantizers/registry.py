"""The quantizers by name: which weights each takes, and in which format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from mansu.bench.quantizers.bnb import fp4, int8, int8_linear, nf4
from mansu.bench.quantizers.ggml import ggml
from mansu.bench.quantizers.hqq_int4 import hqq
from mansu.bench.quantizers.llama_cpp import FileType, tensor_types
from mansu.bench.quantizers.torchao_int4 import GROUP, int4
from verify.behaviour.modules import QuantizedModule, survey
from verify.errors import UsageError

Decode = Callable[[Tensor], Tensor]
"""From a weight `[out, in]` in the stored dtype to the one that the deployment computes with, float32 `[out, in]`."""

Layer = Callable[[Tensor, Tensor | None], Any]
"""From a weight and a bias to the layer that the deployment runs in place of the linear layer."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to store a weight. `block` values in a row share `levels` levels at most; None: a whole row does."""

    decode: Decode
    block: int | None
    levels: int


@dataclass(frozen=True, slots=True)
class Planned:
    """One weight, and the format (a key of `FORMATS`) that it is stored in."""

    module: QuantizedModule
    format: str


Plan = Callable[[Any], tuple[Planned, ...]]
"""From a model to the weights that are quantized."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A deployment's quantizer. `layer` replaces linear layers where rounding weights is not all that it does."""

    name: str
    title: str
    plan: Plan
    layer: Layer | None = None


FORMATS: Mapping[str, Format] = {
    "NF4": Format(nf4, 64, 16),
    "NF4, double": Format(partial(nf4, double=True), 64, 16),
    "FP4": Format(fp4, 64, 16),
    "int8": Format(int8, None, 255),
    **{
        kind: Format(partial(ggml, kind=kind), block, levels)
        for kind, block, levels in (
            ("Q4_0", 32, 16),
            ("Q5_0", 32, 32),
            ("Q5_1", 32, 32),
            ("Q8_0", 32, 255),
            ("Q4_K", 32, 16),
            ("Q5_K", 32, 32),
            ("Q6_K", 16, 64),
            ("F16", None, 63488),
        )
    },
    "torchao int4 / 128": Format(int4, 128, 16),
    "torchao int4 / 64": Format(partial(int4, group=64), 64, 16),
    "HQQ 4 bit / 64": Format(hqq, 64, 16),
}
"""All formats by name."""


def _linears(model: Any, *, kind: str, group: int = 1) -> tuple[Planned, ...]:
    """Plan every linear layer but the output head, as `transformers` does; rows that are not whole groups stay."""
    return tuple(Planned(entry, kind) for entry in survey(model).quantized if entry.shape[1] % group == 0)


def _gguf(model: Any, *, file_type: FileType) -> tuple[Planned, ...]:
    """Plan every matrix: linear layers, embeddings and output head, each in the type that llama.cpp gives it."""
    linears = {entry.weight: entry for entry in survey(model, skip_modules=()).quantized}
    names = {id(module): name for name, module in model.named_modules()}
    embedding, head = (names[id(get())] for get in (model.get_input_embeddings, model.get_output_embeddings))
    tied = bool(model.config.tie_word_embeddings)
    modules = {name: entry for name, entry in linears.items() if not (tied and entry.name == head)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name == embedding:
            shape = (module.weight.shape[0], module.weight.shape[1])
            modules[f"{name}.weight"] = QuantizedModule(name, f"{name}.weight", shape, transposed=False)
    types = tensor_types(
        file_type,
        {name: entry.shape[1] for name, entry in modules.items()},
        output=f"{head}.weight",
        embedding=f"{embedding}.weight",
        tied=tied,
        layers=model.config.num_hidden_layers,
    )
    return tuple(Planned(modules[name], kind) for name, kind in types.items())


QUANTIZERS: Mapping[str, Quantizer] = {
    quantizer.name: quantizer
    for quantizer in (
        Quantizer("nf4", "bitsandbytes NF4", partial(_linears, kind="NF4")),
        Quantizer("nf4-double", "bitsandbytes NF4, double quantization", partial(_linears, kind="NF4, double")),
        Quantizer("fp4", "bitsandbytes FP4", partial(_linears, kind="FP4")),
        Quantizer("int8", "bitsandbytes LLM.int8()", partial(_linears, kind="int8"), int8_linear),
        Quantizer("gguf-q4_0", "GGUF Q4_0", partial(_gguf, file_type=FileType.Q4_0)),
        Quantizer("gguf-q4_k_s", "GGUF Q4_K_S", partial(_gguf, file_type=FileType.Q4_K_S)),
        Quantizer("gguf-q4_k_m", "GGUF Q4_K_M", partial(_gguf, file_type=FileType.Q4_K_M)),
        Quantizer("gguf-q8_0", "GGUF Q8_0", partial(_gguf, file_type=FileType.Q8_0)),
        Quantizer(
            "torchao-int4", "torchao int4, groups of 128", partial(_linears, kind="torchao int4 / 128", group=GROUP)
        ),
        Quantizer(
            "torchao-int4-64", "torchao int4, groups of 64", partial(_linears, kind="torchao int4 / 64", group=64)
        ),
        Quantizer("hqq", "HQQ 4 bit, groups of 64", partial(_linears, kind="HQQ 4 bit / 64")),
    )
}
"""All quantizers by name."""


def find(name: str) -> Quantizer:
    """Return a quantizer by its name; raises `UsageError` ME361 for an unknown one."""
    if name not in QUANTIZERS:
        raise UsageError(
            "this quantizer is not known",
            expected=", ".join(QUANTIZERS),
            found=name,
            remedy="choose one of these, or leave --quantizer out for all of them",
            error_id="ME361",
        )
    return QUANTIZERS[name]
