"""The weights of a described model: matrices whatever layer stores them, gains of norms, and who owns which part."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from verify.circuits.families.anatomy import Family, Norm, OwnedSlice, Rows
from verify.circuits.four_bit import dequantized, is_four_bit
from verify.errors import UsageError

_NODE = re.compile(r"a(?P<al>\d+)\.(?P<kind>[hk])(?P<head>\d+)|m(?P<ml>\d+)(\.n(?P<neuron>\d+))?")


def matrix(model: nn.Module, name: str) -> Tensor:
    """Return the weight of the linear layer `name` as [outputs, inputs], a view where it is stored turned (Conv1D).

    Of a `Linear4bit`, dequantized anew at each call, float32 (see four_bit.py). Errors as `require_matrix`.
    """
    require_matrix(model, name)
    module: Any = model.get_submodule(name)
    if is_four_bit(module):
        return dequantized(module)
    stored: Tensor = module.weight
    return stored.T if isinstance(module, Conv1D) else stored


def require_matrix(model: nn.Module, name: str) -> None:
    """Raise `UsageError` unless `name` is a Linear or a Conv1D with floating-point weights, or a `Linear4bit`."""
    module = model.get_submodule(name)
    if is_four_bit(module):
        return
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear) and weight.is_floating_point():
        shape: tuple[int, ...] = (module.out_features, module.in_features)
    elif isinstance(module, Conv1D) and weight.is_floating_point():
        shape = (module.nx, module.nf)
    else:
        shape = ()
    if not shape or weight.shape != shape:
        raise UsageError(
            f"{name} holds no plain weight matrix",
            expected="a torch Linear or GPT-2's Conv1D with floating-point weights, or a bitsandbytes Linear4bit",
            found=type(module).__name__,
            remedy="load the model unquantized and without adapters, or write the dequantized weights into it",
        )


def bias(model: nn.Module, name: str) -> Tensor:
    """Return the bias of the linear layer `name`, [outputs]; zeros where it has none."""
    stored: Tensor | None = getattr(model.get_submodule(name), "bias", None)
    if stored is not None:
        return stored
    module: Any = model.get_submodule(name)
    if is_four_bit(module):
        return torch.zeros(module.out_features, device=module.weight.device)
    weight = matrix(model, name)
    return torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)


def gain(model: nn.Module, norm: Norm) -> Tensor:
    """Return what a norm multiplies by, float32 [width]."""
    return model.get_parameter(f"{norm.name}.weight").float() + norm.shift


def offset(model: nn.Module, norm: Norm, rows: Rows, units: int) -> Tensor | None:
    """Return what rows hold where the norm they read gives nothing but its bias, float32 [units, size]; None for zero.

    It is the part of a projection's output that does not depend on the residual stream.
    """
    own: Tensor | None = getattr(model.get_submodule(rows.module), "bias", None)
    fixed: Tensor | None = getattr(model.get_submodule(norm.name), "bias", None)
    total = None if own is None else rows.outputs(own.float(), units)
    if fixed is None:
        return total
    read = rows.weights(matrix(model, rows.module), units).float() @ fixed.float()
    return read if total is None else total + read


def owned_slices(family: Family, node: str) -> tuple[OwnedSlice, ...]:
    """Return the weights that a node owns, in the dimensions in which they are stored.

    `a{l}.h{h}`: its rows of q and columns of o. `a{l}.k{k}`: its rows of k and v. `m{l}`: all rows of gate and up and
    all columns of down, or its experts. `m{l}.n{i}`, one neuron: its row of gate and of up and its column of down.
    `input` and `logits` own nothing: embeddings and read-out are never edited. Raises `UsageError` for any other name.
    """
    if node in {"input", "logits"}:
        return ()
    match = _NODE.fullmatch(node)
    graph = family.graph
    if match is None or int(match["al"] or match["ml"] or 0) >= graph.layers:
        raise _unknown(family, node)
    outputs, inputs = (1, 0) if family.turned else (0, 1)
    if match["kind"] is not None:
        head, query = int(match["head"]), match["kind"] == "h"
        if head >= (graph.heads if query else graph.kv_heads):
            raise _unknown(family, node)
        site = family.sites[int(match["al"])]
        if query:
            columns = range(head * family.head_dim, (head + 1) * family.head_dim)
            return _rows(site.query, head, outputs), OwnedSlice(site.output, inputs, columns)
        return _rows(site.key, head, outputs), _rows(site.value, head, outputs)
    site = family.sites[int(match["ml"])]
    if match["neuron"] is not None:
        neuron = int(match["neuron"])
        if neuron >= family.d_ff or site.down is None:
            raise _unknown(family, node)
        read = tuple(_rows(rows, neuron, outputs) for rows in site.inner)
        return (*read, OwnedSlice(site.down, inputs, range(neuron, neuron + 1)))
    if site.down is None:
        return site.experts
    whole = tuple(OwnedSlice(rows.module, outputs, range(rows.start, rows.start + family.d_ff)) for rows in site.inner)
    return (*whole, OwnedSlice(site.down, inputs, range(family.d_ff)))


def _rows(rows: Rows, unit: int, dim: int) -> OwnedSlice:
    return OwnedSlice(rows.module, dim, rows.of(unit))


def _unknown(family: Family, node: str) -> UsageError:
    graph = family.graph
    return UsageError(
        f"{family.architecture} has no node {node!r}",
        expected=f"a{{l}}.h{{h}}, a{{l}}.k{{k}}, m{{l}} or m{{l}}.n{{i}} with l < {graph.layers}, h < {graph.heads}, "
        f"k < {graph.kv_heads}, i < {family.d_ff}",
        found=node,
    )
