"""NPO and SimNPO: the forget answers as dispreferred ones, with a forgetting that slows down by itself."""

from typing import Any, ClassVar, Self

from pydantic import Field

from mansu.baselines.data import BaselineData
from mansu.baselines.losses import against_retention, preference_against_retention, simple_negative_preference
from mansu.baselines.method import Loss, Trained


class NPO(Trained):
    """Negative preference optimization with a retain loss, the paper's NPO+RT (Zhang et al., 2024)."""

    name: ClassVar[str] = "npo"
    title: ClassVar[str] = "NPO"
    paper: ClassVar[str] = "2404.05868"

    beta: float = Field(default=0.1, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002  (one form for all)
        """Return the loss −(2/β) E log σ(−β log(p/p₀)) + w · retain cross-entropy."""
        return preference_against_retention(
            model, data, beta=self.beta, retain="cross_entropy", weight=self.retain_weight
        )


class SimNPO(Trained):
    """NPO without a reference model, normalized by length (Fan et al., 2024).

    The defaults are those that its repository gives for TOFU forget05.
    """

    name: ClassVar[str] = "simnpo"
    title: ClassVar[str] = "SimNPO"
    paper: ClassVar[str] = "2410.07163"

    beta: float = Field(default=2.5, gt=0)
    gamma: float = Field(default=0.0, ge=0)
    forget_weight: float = Field(default=0.1375, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)

    def variants(self) -> tuple[Self, ...]:
        """Return the forget weight as it is, and 1: the authors set it by split."""
        return (self, self.model_copy(update={"forget_weight": 1.0}))

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002
        """Return the loss −f · (2/β) E log σ(−β log p − γ) + w · retain cross-entropy."""
        return against_retention(
            lambda log_p, _: self.forget_weight * simple_negative_preference(log_p, beta=self.beta, gamma=self.gamma),
            data,
            "cross_entropy",
            self.retain_weight,
        )
