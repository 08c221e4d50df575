"""One linear layer with masked parameters and a least-squares objective: the solver's steps without a model around."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mansu.floor.lattice import absmax_holders
from mansu.mask.selection import Mask
from mansu.solve.finish.moves import Slope
from mansu.solve.masked import Bounds, Masked, masked_parameters
from mansu.solve.sampled import gradients_at
from verify.nf4.rows import ROW_IDS, Geometry
from verify.nf4.stream import TensorStream

GEOMETRIES = tuple(
    Geometry(size, double, cast) for size in (64, 128) for cast in ("none", "fp16") for double in (False, True)
)
MARGIN = 2.0**-7
BOUNDS = Bounds(GEOMETRIES, fisher_budget=1.0, margin=MARGIN)


@dataclass
class Layer:
    """A layer of bfloat16 values, its masked parameters, inputs, and the outputs that are wanted of it."""

    layer: nn.Linear
    base: Tensor
    masked: Masked
    inputs: Tensor
    wanted: Tensor

    def loss(self) -> Tensor:
        return (self.layer(self.inputs) - self.wanted).square().mean()

    def measured(self) -> float:
        with torch.no_grad():
            return float(self.loss())

    def gradient(self) -> Tensor:
        return gradients_at(self.loss, self.masked.layers, self.masked.indices)

    def look(self) -> Slope:
        return Slope(self.gradient(), self.masked.fisher + self.masked.fisher.mean())

    def require_valid(self) -> None:
        """Every changed value meets the five rows in every deployment, as the verifier judges them; no other moved."""
        now = self.layer.weight.detach().reshape(-1)
        places = (now != self.base.float().reshape(-1)).nonzero().reshape(-1)
        old, new = (weight.reshape(-1).bfloat16().view(torch.uint16).numpy() for weight in (self.base, now))
        assert torch.equal(now.bfloat16().float(), now), "a value that its dtype cannot hold"
        assert bool(torch.isin(places, self.masked.indices["l"]).all()), "a parameter outside the mask moved"
        assert places.numel() == self.masked.changed
        stream = TensorStream("BF16", old.size, places.numpy(), old[places.numpy()], GEOMETRIES)
        stream.feed(0, new)
        stream.feed_base(0, old)
        for tally in stream.finish(margin=MARGIN).values():
            assert tally.satisfied == dict.fromkeys(ROW_IDS, places.numel())
            assert not tally.overflow


def tiny(seed: int, *, rows: int = 24, width: int = 128, share: float = 0.3, moved: float = 0.5) -> Layer:
    """Return a layer of which a share is masked, and of these a share moved to a valid value at random."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(rows, width, generator=generator) * 0.05).bfloat16()
    layer = nn.Linear(width, rows, bias=False).requires_grad_(False)
    layer.weight.copy_(base.float())
    chosen = (torch.rand(base.shape, generator=generator) < share) & ~absmax_holders(base)
    indices = chosen.reshape(-1).nonzero().reshape(-1)
    fisher = torch.rand(indices.numel(), generator=generator) * 1e-3
    mask = Mask({"l": indices}, base.numel())
    masked = masked_parameters({"l": layer}, torch.bfloat16, mask, {"l": fisher}, BOUNDS)
    noise = torch.randn(indices.numel(), generator=generator) * 0.05
    target, _ = masked.lattice.nearest((masked.lattice.base + noise).clamp(-masked.lattice.scale, masked.lattice.scale))
    move = torch.rand(indices.numel(), generator=generator) < moved
    masked.set(torch.where(move, target, masked.lattice.base))
    masked.free[:] = False
    inputs = torch.randn(64, width, generator=generator) * (torch.rand(width, generator=generator) * 3)
    wanted = inputs @ (base.float() + 0.02 * torch.randn(base.shape, generator=generator)).T
    return Layer(layer, base, masked, inputs, wanted)
