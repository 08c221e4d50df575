"""The mask: which parameters within the circuit carry the forget set and little of what is retained."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mansu.config import MaskChoice
from mansu.floor.lattice import absmax_holders
from mansu.retain.fisher import Fisher
from mansu.retain.null_space import NullSpace
from verify.circuits import Circuit, Family, full_circuit, nodes, owned_slices
from verify.nf4 import quantize


@dataclass(frozen=True, slots=True)
class Mask:
    """Flat indices (int64, sorted) of the masked parameters by layer name, and how many parameters the model has."""

    indices: Mapping[str, Tensor]
    parameters: int

    @property
    def size(self) -> int:
        """Return the number of masked parameters."""
        return sum(int(index.numel()) for index in self.indices.values())


def circuit_regions(
    family: Family, circuit: Circuit, layers: Mapping[str, nn.Linear], *, from_layer: int, below_layer: int
) -> dict[str, Tensor]:
    """Return which weights the circuit's nodes own, bool by layer name, in layers `from_layer` ≤ l < `below_layer`.

    The last layers are the read-out: an edit there would mute an answer and leave the mechanism before it alone. The
    first layers read the words of the prompt: an edit there forgets wordings, not facts (measured on the demo). Both
    are left out of the mask. So is what `layers` does not hold: weights that NF4 leaves as they are cannot be edited.
    """
    regions: dict[str, Tensor] = {}
    for node in sorted(nodes(circuit)):
        if node in ("input", "logits") or not from_layer <= layer_of(node) < below_layer:
            continue
        for owned in owned_slices(family, node):
            if owned.module not in layers:  # experts, or what a deployment profile does not quantize
                continue
            shape = layers[owned.module].weight.shape
            region = regions.setdefault(owned.module, torch.zeros(shape, dtype=torch.bool))
            region.narrow(owned.dim, owned.span.start, len(owned.span)).fill_(value=True)
    return regions


def layer_regions(
    family: Family, layers: Mapping[str, nn.Linear], *, from_layer: int, below_layer: int
) -> dict[str, Tensor]:
    """Return what `circuit_regions` would of a circuit that leaves no node out: whole layers, and the same ones."""
    whole = full_circuit(family.graph)
    return circuit_regions(family, whole, layers, from_layer=from_layer, below_layer=below_layer)


def layer_of(node: str) -> int:
    """Return the layer of a node such as `a3.h1` or `m7`."""
    return int(node[1:].split(".", maxsplit=1)[0])


def everywhere(layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """Return regions that leave nothing of `layers` out, bool by layer name: what a mask without a circuit has."""
    return {name: torch.ones(layer.weight.shape, dtype=torch.bool) for name, layer in layers.items()}


def select(
    layers: Mapping[str, nn.Linear],
    stored: torch.dtype,
    regions: Mapping[str, Tensor],
    forget_gradient: Mapping[str, Tensor],
    fisher: Fisher,
    null_space: NullSpace,
    *,
    choice: MaskChoice,
    size: int,
    parameters: int,
    seed: int,
    holders: bool = False,
) -> Mask:
    """Take the `size` most salient parameters within the regions; absmax holders are left out unless `holders`.

    Saliency by contrast = |forget gradient, projected onto the retain null space| · block scale / sqrt(Fisher + its
    mean): the forgetting that a move of one bin buys per retain loss it risks. `gradient` is its numerator without the
    projection and the scale, the usual saliency; `random` draws by `seed`. A flat Fisher and the whole space
    (`Fisher.flat`, `NullSpace.whole`) leave either part of the contrast out.
    """
    generator = torch.Generator().manual_seed(seed)
    saliency = {}
    for name, region in regions.items():
        weight = layers[name].weight.detach().to(stored)
        match choice:
            case "circuit" | "layers" | "contrast":
                projected = null_space.project(name, forget_gradient[name]).abs()
                risk = (fisher.diagonal[name] + fisher.mean).sqrt()
                value = projected * quantize(weight, name=name).scales() / risk
            case "gradient":
                value = forget_gradient[name].abs()
            case "random":
                value = 1 - torch.rand(weight.shape, generator=generator)  # in (0, 1]: zero means left out
        left_out = ~region if holders else ~region | absmax_holders(weight).cpu()
        saliency[name] = value.cpu().masked_fill(left_out, 0).reshape(-1)
    threshold = _threshold(saliency, size)
    indices = {name: (value >= threshold).nonzero().reshape(-1) for name, value in saliency.items()}
    return Mask({name: index for name, index in indices.items() if index.numel()}, parameters)


def _threshold(saliency: Mapping[str, Tensor], size: int) -> float:
    """Return the value of the `size`-th largest saliency, without sorting everything at once."""
    best = torch.zeros(0)
    for value in saliency.values():
        top = value.topk(min(size, value.numel())).values
        best = torch.cat([best, top[top > 0]])
        if best.numel() > size:
            best = best.topk(size).values
    return float(best.min()) if best.numel() else float("inf")
