"""What a prompt is measured by: plain functions of the logits at its last position, and of what they are read at.

`logits` [N, vocabulary]; `tokens` int64 and `weights` float32 [N, 1 + most alternatives]: the answer first, then the
alternatives, whose weights are −1/count, and 0 in the places that a row does not use. Returns float32 [N].
Any function of this form is a metric, if it is differentiable in the logits.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Metric: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""metric(logits, tokens, weights)"""


def answer_minus_alternatives(logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the answer's logit minus the mean logit of the alternatives."""
    return (logits.gather(1, tokens).float() * weights).sum(1)


def answer_logit(logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:  # noqa: ARG001  (one form for all)
    """Return the answer's logit."""
    return logits.gather(1, tokens[:, :1]).float().squeeze(1)


def answer_log_probability(logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the natural logarithm of the answer's probability among the whole vocabulary."""
    return answer_logit(logits, tokens, weights) - logits.float().logsumexp(1)
