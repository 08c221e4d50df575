"""Where writers and readers sit in a Hugging Face model, family by family.

One function per family turns a model into a `Family`: module names and sizes, nothing else. To support another
architecture, write such a function and enter it in `_FAMILIES`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from verify.circuits.graph import Graph
from verify.circuits.weights import is_four_bit
from verify.errors import UsageError

_NODE = re.compile(r"a(?P<al>\d+)\.(?P<kind>[hk])(?P<head>\d+)|m(?P<ml>\d+)(\.n(?P<neuron>\d+))?")


@dataclass(frozen=True)
class LayerSites:
    """Module names of one decoder layer. Both norms are RMS norms at the head of their branch (pre-norm)."""

    attention_norm: str
    query: str
    key: str
    value: str
    output: str
    mlp_norm: str
    mlp: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True)
class Family:
    """The anatomy of one model: its graph, its sizes and the names of its modules."""

    architecture: str
    graph: Graph
    vocabulary: int
    width: int
    head_dim: int
    d_ff: int
    embedding: str
    layers: str
    final_norm: str
    unembedding: str
    sites: tuple[LayerSites, ...]


class OwnedSlice(NamedTuple):
    """A range of rows (`dim` 0, outputs) or columns (`dim` 1, inputs) of the weight of the Linear `module`."""

    module: str
    dim: int
    span: range


def _llama_like(model: nn.Module) -> Family:
    """Llama, Mistral, Qwen2, Qwen3: pre-norm, separate q/k/v, gated MLP; Qwen3's q/k norms follow the projections."""
    config: Any = model.config
    heads = int(config.num_attention_heads)
    sites = tuple(
        LayerSites(
            attention_norm=f"{layer}.input_layernorm",
            query=f"{layer}.self_attn.q_proj",
            key=f"{layer}.self_attn.k_proj",
            value=f"{layer}.self_attn.v_proj",
            output=f"{layer}.self_attn.o_proj",
            mlp_norm=f"{layer}.post_attention_layernorm",
            mlp=f"{layer}.mlp",
            gate=f"{layer}.mlp.gate_proj",
            up=f"{layer}.mlp.up_proj",
            down=f"{layer}.mlp.down_proj",
        )
        for layer in (f"model.layers.{index}" for index in range(config.num_hidden_layers))
    )
    return Family(
        architecture=type(model).__name__,
        graph=Graph(layers=len(sites), heads=heads, kv_heads=int(config.num_key_value_heads)),
        vocabulary=int(config.vocab_size),
        width=int(config.hidden_size),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        d_ff=int(config.intermediate_size),
        embedding="model.embed_tokens",
        layers="model.layers",
        final_norm="model.norm",
        unembedding="lm_head",
        sites=sites,
    )


_FAMILIES: dict[str, Callable[[nn.Module], Family]] = {
    "LlamaForCausalLM": _llama_like,
    "MistralForCausalLM": _llama_like,
    "Qwen2ForCausalLM": _llama_like,
    "Qwen3ForCausalLM": _llama_like,
}


def describe(model: nn.Module) -> Family:
    """Return the anatomy of `model`.

    Raises `UsageError` for an unknown architecture, or when a projection is not a plain floating-point Linear
    (an adapter, or another packing than bitsandbytes': attribution needs the effective weight).
    """
    architecture = type(model).__name__
    builder = _FAMILIES.get(architecture)
    if builder is None:
        raise UsageError(
            f"circuits are not defined for the architecture {architecture}",
            expected="one of " + ", ".join(_FAMILIES),
            found=architecture,
            remedy="use a model of a supported family, or add its family to verify/circuits/families.py",
        )
    family = builder(model)
    for site in family.sites:
        for name in (site.query, site.key, site.value, site.output, site.gate, site.up, site.down):
            linear(model, name)
    return family


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return the Linear called `name`.

    Raises `UsageError` unless it has a floating-point [out, in] matrix, or is a `Linear4bit` of bitsandbytes.
    """
    module = model.get_submodule(name)
    if not isinstance(module, nn.Linear) or not _is_plain(module):
        raise UsageError(
            f"{name} holds no plain weight matrix",
            expected="a torch Linear with floating-point weights, or a bitsandbytes Linear4bit",
            found=type(module).__name__,
            remedy="load the model unquantized and without adapters, or write the dequantized weights into it",
        )
    return module


def _is_plain(module: nn.Linear) -> bool:
    weight = module.weight
    if is_four_bit(module):
        return True
    return weight.is_floating_point() and weight.shape == (module.out_features, module.in_features)


def owned_slices(family: Family, node: str) -> tuple[OwnedSlice, ...]:
    """Return the weights that a node owns.

    `a{l}.h{h}`: its rows of q and columns of o. `a{l}.k{k}`: its rows of k and v. `m{l}`: all rows of gate and up and
    all columns of down. `m{l}.n{i}`, one neuron: its row of gate and of up and its column of down. `input` and
    `logits` own nothing: embeddings and read-out are never edited. Raises `UsageError` for any other name.
    """
    if node in {"input", "logits"}:
        return ()
    match = _NODE.fullmatch(node)
    graph = family.graph
    if match is None or int(match["al"] or match["ml"] or 0) >= graph.layers:
        raise _unknown(family, node)
    if match["kind"] is not None:
        head, query = int(match["head"]), match["kind"] == "h"
        if head >= (graph.heads if query else graph.kv_heads):
            raise _unknown(family, node)
        site = family.sites[int(match["al"])]
        span = range(head * family.head_dim, (head + 1) * family.head_dim)
        if query:
            return OwnedSlice(site.query, 0, span), OwnedSlice(site.output, 1, span)
        return OwnedSlice(site.key, 0, span), OwnedSlice(site.value, 0, span)
    site = family.sites[int(match["ml"])]
    span = range(family.d_ff)
    if match["neuron"] is not None:
        neuron = int(match["neuron"])
        if neuron >= family.d_ff:
            raise _unknown(family, node)
        span = range(neuron, neuron + 1)
    return OwnedSlice(site.gate, 0, span), OwnedSlice(site.up, 0, span), OwnedSlice(site.down, 1, span)


def _unknown(family: Family, node: str) -> UsageError:
    graph = family.graph
    return UsageError(
        f"{family.architecture} has no node {node!r}",
        expected=f"a{{l}}.h{{h}}, a{{l}}.k{{k}}, m{{l}} or m{{l}}.n{{i}} with l < {graph.layers}, h < {graph.heads}, "
        f"k < {graph.kv_heads}, i < {family.d_ff}",
        found=node,
    )


@contextmanager
def swapped(model: nn.Module, reference: nn.Module, from_layer: int) -> Iterator[nn.Module]:
    """Lend `model` the reference's layers from `from_layer` on, its final norm and its read-out, for a depth profile.

    `from_layer` = number of layers lends the read-out only. Modules are shared, nothing is copied; they are put back
    on exit. Raises `UsageError` when the two models differ in anatomy or `from_layer` is out of range.
    """
    family = describe(model)
    if describe(reference) != family:
        raise UsageError("the reference model has another anatomy than the model", expected=family.architecture)
    if not 0 <= from_layer <= family.graph.layers:
        raise UsageError("no such layer to swap from", expected=f"0 to {family.graph.layers}", found=str(from_layer))
    names = [f"{family.layers}.{index}" for index in range(from_layer, family.graph.layers)]
    names += [family.final_norm, family.unembedding]
    own = {name: model.get_submodule(name) for name in names}
    try:
        for name in names:
            model.set_submodule(name, reference.get_submodule(name))
        yield model
    finally:
        for name, module in own.items():
            model.set_submodule(name, module)
