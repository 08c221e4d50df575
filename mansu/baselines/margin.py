"""A QUAIL-style margin: the logits of forget examples must differ from the base's by half a quantization step."""

from copy import deepcopy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mansu.baselines.data import BaselineData, Batch
from mansu.baselines.losses import ascent, retain_cross_entropy
from mansu.baselines.method import Loss, Trained
from mansu.data.examples import last_logits


class QuailStyle(Trained):
    """GradDiff with a hinge on the forget logits (Mishra and Mehreen, 2026): QUAIL-style, not QUAIL.

    Only the abstract could be read: "for each forget example, we force the output logits of the unlearned model to
    differ from the original model by at least a margin (half the quantization step)", added to GA+GDR. Ours are the
    step, that of quantizing an example's base logits uniformly in `bits` bits, the mean over the vocabulary, and the
    weight.
    """

    name: ClassVar[str] = "quail-style"
    title: ClassVar[str] = "QUAIL-style margin"
    paper: ClassVar[str] = "2601.15538"

    bits: int = Field(default=4, ge=1, le=8)
    margin_weight: float = Field(default=1.0, ge=0)
    retain_weight: float = Field(default=1.0, ge=0)

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:  # noqa: ARG002  (one form for all)
        """Return the loss E log p + m · hinge + w · retain cross-entropy."""
        base = deepcopy(model).requires_grad_(False)

        def loss(model: Any, batch: Batch) -> Tensor:
            with torch.no_grad():
                before = last_logits(base, data.forget, batch.forget)
            logits = last_logits(model, data.forget, batch.forget)
            answers = data.forget.answers_of(batch.forget, logits.device)
            total = ascent(logits.log_softmax(-1).gather(1, answers[:, None])[:, 0])
            total = total + self.margin_weight * logit_hinge(before, logits, bits=self.bits)
            return total + self.retain_weight * retain_cross_entropy(model, data.retained, batch)

        return loss


def logit_hinge(before: Tensor, after: Tensor, *, bits: int) -> Tensor:
    """Return the mean of max(0, step/2 − |after − before|) over logits `[n, vocabulary]`, a scalar.

    The step is (max − min) / (2^bits − 1) of an example's logits under the base.
    """
    step = (before.amax(-1) - before.amin(-1)) / (2**bits - 1)
    return functional.relu(step[:, None] / 2 - (after - before).abs()).mean()
