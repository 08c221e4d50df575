"""A DurableUn-style objective: the loss is that of the model after NF4, and its gradient passes straight through."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from mansu.baselines.ascent import GradDiff
from mansu.baselines.data import BaselineData
from mansu.baselines.method import Loss, Sweep, Trained
from mansu.baselines.preference import NPO
from mansu.baselines.weights import straight_through


class DurableUnStyle(Trained):
    """Forget and retain losses of the quantized model (Khan and Sohel, 2026): DurableUn-style, not DurableUn-SAF.

    Only the abstract could be read: "a quantization-aware objective using Straight-Through Estimator gradients through
    INT4 rounding", in the NF4 + LoRA regime. Ours are the losses (NPO's, or GradDiff's), plain weights instead of
    adapters, and NF4 itself as the rounding, exactly as it is deployed; its sharpness term is not reproduced.
    """

    name: ClassVar[str] = "durableun-style"
    title: ClassVar[str] = "DurableUn-style straight-through"
    paper: ClassVar[str] = "2605.02196"
    sweep: ClassVar[Sweep] = Sweep("learning rate", 2e-5)

    forget: Literal["ascent", "npo"] = "npo"
    beta: float = Field(default=0.1, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002
        """Train every weight, behind its NF4 value."""
        with straight_through(model, data.stored) as parameters:
            yield parameters

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:
        """Return NPO's loss or GradDiff's; in training the model computes with NF4's values."""
        if self.forget == "ascent":
            return GradDiff(retain_weight=self.retain_weight).loss(model, data, seed)
        return NPO(beta=self.beta, retain_weight=self.retain_weight).loss(model, data, seed)
