"""What the constants say of prompts that they were not taken from (Theorem 4 of docs/retain-bound.md)."""

import math
import random

import torch
from torch import Tensor

from mansu.retain_bound.document import SetBound, Transfer
from mansu.retain_bound.measure import Positions

LEVEL = 0.9


def conformal_factor(scores: Tensor, level: float) -> float | None:
    """Return the ⌈(n + 1) level⌉-th smallest of n scores, None where that is beyond the last.

    A new score exchangeable with them exceeds it with probability at most 1 − level (split conformal prediction).
    """
    # the product of integers and a decimal may round up past a whole number
    rank = math.ceil((scores.numel() + 1) * level - 1e-9)
    return None if rank > scores.numel() else float(scores.sort().values[rank - 1])


def transfer(known: SetBound, held_out: Positions, blocks_leak: Tensor, seed: int) -> Transfer:
    """Calibrate on one half of the held-out prompts, and test on the other.

    `blocks_leak` `[L]` is √mean ‖ΔW X‖² of the held-out prompts by edited decoder layer.
    """
    predicted = (held_out.first + known.remainder).square() / 2
    scores = held_out.change.divergence / predicted.clamp(min=1e-300)
    order = list(range(scores.numel()))
    random.Random(seed).shuffle(order)  # noqa: S311  (a split, not a secret)
    half = (len(order) + 1) // 2
    calibrated, tested = scores[order[:half]], scores[order[half:]]
    factor = conformal_factor(calibrated, LEVEL)
    gains = torch.tensor([block.gain for block in known.blocks], dtype=torch.float64)
    return Transfer(
        level=LEVEL,
        factor=factor,
        calibrated=calibrated.numel(),
        tested=tested.numel(),
        covered=None if factor is None else int((tested <= factor).sum()),
        layers_predicted=known.growth_layers * float((gains * blocks_leak).sum()) ** 2,
    )
