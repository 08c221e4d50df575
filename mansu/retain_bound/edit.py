"""An edit of linear layers as data: where each weight changed, and what that adds to the layer's output."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mansu.base import Base, open_base
from verify.artefact.torch_tensors import as_torch
from verify.behaviour.modules import nf4_linears
from verify.errors import UsageError

_BLOCK = re.compile(r"^(.*?)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class LayerEdit:
    """ΔW of one linear layer, float32: flat `indices` `[n]` with their `moves` `[n]` and edited `values` `[n]`.

    `rows` `[k]` are the outputs that change, `delta` `[k, in]` those rows of ΔW. `block` is the number of the decoder
    layer that holds it.
    """

    name: str
    block: int
    indices: Tensor
    moves: Tensor
    values: Tensor
    rows: Tensor
    delta: Tensor

    def added(self, x: Tensor) -> Tensor:
        """Return the changed outputs' part of ΔW x, `[.., k]`, of inputs `[.., in]`."""
        return x @ self.delta.T

    def spread(self, added: Tensor, outputs: int) -> Tensor:
        """Return `added` `[.., k]` as an output of the layer `[.., out]`."""
        full = added.new_zeros((*added.shape[:-1], outputs))
        full[..., self.rows] = added
        return full


Edits = Mapping[str, LayerEdit]
"""By layer name, in the order of the decoder layers."""


def read_edit(base: Base, model: Any, folder: Path) -> dict[str, LayerEdit]:
    """Compare an edited model's folder (or a certificate's, with `model/`) with its base.

    Raises `UsageError` ME210 for the folder; ME350 where it is no edit of the base's linear layers.
    """
    inner = folder / "model"
    edited = open_base(inner if inner.is_dir() and not (folder / "config.json").is_file() else folder)
    shapes, others = ({name: view.shape for name, view in b.weights.tensors().items()} for b in (base, edited))
    if shapes != others:
        odd = sorted(name for name in shapes.keys() | others.keys() if shapes.get(name) != others.get(name))
        raise _refused("its tensors are not those of the base", odd[0])
    layers = {f"{name}.weight": (name, layer) for name, layer in nf4_linears(model).items()}
    found = []
    for tensor in shapes:
        before, after = (as_torch(b.weights.holder(tensor), tensor) for b in (base, edited))
        if torch.equal(before, after):
            continue
        if tensor not in layers:
            raise _refused("it differs outside the linear layers that NF4 quantizes", tensor)
        name, layer = layers[tensor]
        found.append(layer_edit(name, layer, after.float()))
    if not found:
        raise _refused("it is the base itself", "no value differs")
    return {edit.name: edit for edit in sorted(found, key=lambda edit: edit.block)}


def layer_edit(name: str, layer: nn.Linear, after: Tensor) -> LayerEdit:
    """Describe the change of a layer's weight to `after`, float32 `[out, in]`."""
    before = layer.weight.detach().float()
    moves = after - before
    flat = moves.reshape(-1)
    indices = flat.nonzero().reshape(-1)
    rows = moves.ne(0).any(1).nonzero().reshape(-1)
    block = _BLOCK.match(name)
    if block is None:
        raise _refused("it changes a layer outside the decoder's layers", name)
    values = after.reshape(-1)[indices]
    return LayerEdit(name, int(block.group(2)), indices, flat[indices], values, rows, moves[rows].contiguous())


def blocks_of(model: Any, edits: Edits) -> Any:
    """Return the list of decoder layers in which the edited layers lie."""
    block = _BLOCK.match(next(iter(edits)))
    assert block is not None
    return model.get_submodule(block.group(1))


@contextmanager
def applied(model: Any, edits: Edits) -> Iterator[None]:
    """Hold the edited values in the model, and put the base's back bit for bit."""
    flats = {name: model.get_submodule(name).weight.data.view(-1) for name in edits}
    before = {name: flat[edits[name].indices].clone() for name, flat in flats.items()}
    try:
        for name, flat in flats.items():
            flat[edits[name].indices] = edits[name].values
        yield
    finally:
        for name, flat in flats.items():
            flat[edits[name].indices] = before[name]


def _refused(what: str, found: str) -> UsageError:
    return UsageError(
        f"the edited model cannot be compared with its base: {what}",
        expected="a folder with the base's tensors, some values of its linear layers changed",
        found=found,
        remedy="give the folder of an edited model, or a certificate, that was made from this base",
        error_id="ME350",
    )
