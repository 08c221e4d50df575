"""The masked parameters while they are solved for: where they stand, which are still free, and that no other moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mansu.floor.lattice import Lattice, lattice
from mansu.mask.selection import Mask
from verify.nf4.rows import Geometry


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an edit may not exceed: the Fisher budget in nats, the margin, and the reach within a block's absmax.

    `geometries` are the deployments that every edited parameter must survive at once.
    """

    geometries: tuple[Geometry, ...]
    fisher_budget: float = 0.05
    margin: float = 2.0**-7
    reach: float = 0.98


@dataclass(frozen=True, slots=True)
class State:
    """Where the masked parameters stand, which are free, and their first moments, each `[n]`."""

    master: Tensor
    free: Tensor
    first: Tensor


@dataclass(slots=True)
class Masked:
    """The masked parameters of all layers as flat vectors `[n]`, layer after layer: the solver's whole world.

    They lie on the CPU, wherever the model does: few values go to and fro.
    `master` float32 holds their values, `free` bool those that no snap has fixed yet, `first` and `second` Adam's
    moments. `indices` are flat within each layer, `slices` each layer's part of the vectors.
    """

    stored: torch.dtype
    layers: Mapping[str, nn.Linear]
    indices: Mapping[str, Tensor]
    slices: Mapping[str, slice]
    lattice: Lattice
    fisher: Tensor
    master: Tensor
    free: Tensor
    first: Tensor
    second: Tensor
    count: int = 0

    @property
    def moved(self) -> Tensor:
        """Return which parameters differ from the base, bool `[n]`."""
        return self.master != self.lattice.base

    @property
    def changed(self) -> int:
        """Return how many parameters differ from the base."""
        return int(self.moved.sum())

    def cost(self, values: Tensor) -> float:
        """Return ½ Σ F Δ² of `values` `[n]` against the base, in nats."""
        return float((self.fisher * (values - self.lattice.base).square()).sum() / 2)

    def state(self) -> State:
        """Return what a trial may have to put back."""
        return State(self.master, self.free, self.first.clone())

    def restore(self, state: State) -> None:
        """Put an earlier state back, in the model too."""
        self.master, self.free, self.first = state.master, state.free, state.first.clone()
        self.write()

    def set(self, values: Tensor) -> None:
        """Let the parameters have these values `[n]`, in the model too."""
        self.master = values
        self.write()

    def write(self) -> None:
        """Put the master values into the model."""
        with torch.no_grad():
            for name, layer in self.layers.items():
                flat = layer.weight.view(-1)
                flat[self.indices[name]] = self.master[self.slices[name]].to(flat)


def masked_parameters(
    layers: Mapping[str, nn.Linear], stored: torch.dtype, mask: Mask, fisher: Mapping[str, Tensor], bounds: Bounds
) -> Masked:
    """Gather the masked parameters of `layers`, at their base values and all free."""
    parts = [
        lattice(weight.cpu().to(stored), mask.indices[name], geometries=bounds.geometries, margin=bounds.margin)
        for name, weight in ((name, layer.weight.detach()) for name, layer in layers.items())
    ]
    starts = torch.tensor([0, *(part.base.numel() for part in parts)]).cumsum(0).tolist()
    whole = Lattice(*(torch.cat([getattr(part, field) for part in parts]) for field in Lattice.__slots__))
    n = whole.base.numel()
    return Masked(
        stored=stored,
        layers=layers,
        indices=mask.indices,
        slices={name: slice(starts[i], starts[i + 1]) for i, name in enumerate(layers)},
        lattice=whole,
        fisher=torch.cat([fisher[name] for name in layers]),
        master=whole.base.clone(),
        free=torch.ones(n, dtype=torch.bool),
        first=torch.zeros(n),
        second=torch.zeros(n),
    )


def fingerprint(layers: Mapping[str, nn.Linear], mask: Mask) -> Sequence[int]:
    """Sum the bit patterns outside the mask: cheap, and any single change shows."""
    sums = []
    for name, layer in layers.items():
        bits = layer.weight.detach().view(torch.int16 if layer.weight.element_size() == 2 else torch.int32).reshape(-1)
        sums.append(int(bits.sum(dtype=torch.int64)) - int(bits[mask.indices[name]].sum(dtype=torch.int64)))
    return sums
