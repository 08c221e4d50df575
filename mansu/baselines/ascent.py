"""Gradient ascent on the forget set: alone, within a circuit, and against two kinds of retain loss."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from mansu.baselines.data import BaselineData
from mansu.baselines.losses import against_retention, ascent
from mansu.baselines.method import Loss, Trained
from mansu.baselines.weights import masked
from verify.errors import UsageError


class GradientAscent(Trained):
    """Ascend the forget set's cross-entropy, and nothing else (Jang et al., 2022)."""

    name: ClassVar[str] = "ascent"
    title: ClassVar[str] = "Gradient ascent"
    paper: ClassVar[str] = "2210.01504"

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002  (one form for all)
        """Return the loss E log p."""
        return against_retention(lambda log_p, _: ascent(log_p), data, None, 0.0)


class CircuitAscent(GradientAscent):
    """Gradient ascent on the weights that the forget set's circuit owns: the baseline of the MANSU paper.

    The paper could not be read whole; which weights its circuit owns is our reading
    (`mansu.mask.selection.circuit_regions`).
    """

    name: ClassVar[str] = "ascent-circuit"
    title: ClassVar[str] = "Gradient ascent within the circuit"
    paper: ClassVar[str] = "2605.15138"

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002
        """Train the circuit's weights; raises `UsageError` ME281 where no circuit is given or it owns nothing."""
        regions = data.regions or {}
        if not any(region.any() for region in regions.values()):
            raise UsageError(
                "ascent within the circuit needs a circuit that owns weights",
                expected="regions of a circuit of the forget set (`mansu.baselines.regions_of`)",
                found="no circuit" if data.regions is None else "a circuit that owns nothing",
                remedy="find the circuit first (`mansu.unlearn.find_circuit`)",
                error_id="ME281",
            )
        with masked(model, regions) as parameters:
            yield parameters


class GradDiff(Trained):
    """Ascend the forget loss, descend the retain loss (Liu et al., 2022)."""

    name: ClassVar[str] = "graddiff"
    title: ClassVar[str] = "GradDiff"
    paper: ClassVar[str] = "2203.12817"

    retain_weight: float = Field(default=1.0, ge=0)

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002
        """Return the loss E log p + w · retain cross-entropy."""
        return against_retention(lambda log_p, _: ascent(log_p), data, "cross_entropy", self.retain_weight)


class DivergenceAscent(Trained):
    """Ascend the forget loss under a KL constraint: retain KL to the frozen base ("KL minimization" of TOFU)."""

    name: ClassVar[str] = "ascent-kl"
    title: ClassVar[str] = "KL-constrained ascent"
    paper: ClassVar[str] = "2401.06121"

    retain_weight: float = Field(default=1.0, ge=0)

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002
        """Return the loss E log p + w · KL(base ‖ model) on the retain set."""
        return against_retention(lambda log_p, _: ascent(log_p), data, "divergence", self.retain_weight)
