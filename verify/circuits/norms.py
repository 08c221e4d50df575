"""Norms as data: the pieces of their derivative, and what one writer's change is once a post-norm has passed it on."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from verify.circuits.families import Norm, gain


class Normed(NamedTuple):
    """A norm's input, less its mean where the norm takes it, [..., width], and 1/sqrt(mean square + eps) [..., 1]."""

    stream: Tensor
    inverse: Tensor


def normed(norm: Norm, stream: Tensor) -> Normed:
    """Return the pieces of `norm` at its input `stream` [..., width], in float32."""
    values = stream.float()
    if norm.centred:
        values = values - values.mean(-1, keepdim=True)
    return Normed(values, torch.rsqrt(values.square().mean(-1, keepdim=True) + norm.eps))


@dataclass(frozen=True, eq=False)
class PostNormStep:
    """A post-norm (RMS) between two of its inputs a and b: the linear map S with S(a − b) = norm(a) − norm(b), exactly.

    With r = 1/rms at a and b, m = (a + b)/2 and ρ = (r_a + r_b)/2:  S(d) = gain · (ρ·d − r_a²·r_b²/(ρ·width)·⟨m, d⟩·m).
    As a and b meet it becomes the norm's Jacobian, so it is the JVP of a finite step; being linear, it shares the
    change of what the norm passes on among the writers before it, and leaves nothing over.
    `middle` [N, width], `mean` and `bend` [N, 1], `gain` [width], float32.
    """

    middle: Tensor
    mean: Tensor
    bend: Tensor
    gain: Tensor

    @classmethod
    def between(cls, model: nn.Module, norm: Norm, one: Tensor, other: Tensor) -> "PostNormStep":
        """Return the step of `norm` from `other` to `one`, both [..., width] with N positions."""
        a, b = (normed(norm, value.flatten(0, -2)) for value in (one, other))
        mean = (a.inverse + b.inverse) / 2
        bend = a.inverse.square() * b.inverse.square() / (mean * one.shape[-1])
        return cls((a.stream + b.stream) / 2, mean, bend, gain(model, norm))

    def at(self, length: int, span: slice) -> "PostNormStep":
        """Return the step at a part of the positions of every prompt, of which each has `length`."""

        def part(value: Tensor) -> Tensor:
            return torch.unflatten(value, 0, (-1, length))[:, span].flatten(0, 1)

        return PostNormStep(part(self.middle), part(self.mean), part(self.bend), self.gain)

    def forward(self, change: Tensor) -> Tensor:
        """Return what the stream receives of changes [..., N, width] before the norm."""
        return (change * self.mean - (change * self.middle).sum(-1, keepdim=True) * self.bend * self.middle) * self.gain

    def backward(self, gradient: Tensor) -> Tensor:
        """Pull gradients [..., N, width] at the stream back before the norm: the transpose of `forward`."""
        scaled = gradient * self.gain
        return scaled * self.mean - (scaled * self.middle).sum(-1, keepdim=True) * self.bend * self.middle
