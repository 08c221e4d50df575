"""Swaps: moved parameters that hardly matter return to the base, and as many that matter more leave it.

The number of changed parameters stays. What goes in is masked already, but stood at its base value: no swap leaves the
circuit's mask.
"""

import torch

from mansu.masked import Masked
from mansu.moves import Kept, Look, Measured, Proposals, Slope, best_moves, keep_what_helps, returns

_SHARE = 0.05
"""The first batch of pairs, as a share of the changed parameters."""


def swap(
    masked: Masked, look: Look, measured: Measured, *, rounds: int, trials: int, budget: float
) -> tuple[float, Kept]:
    """Exchange parameters in pairs, cheapest return with most helpful departure, while the measured objective falls.

    Each of `rounds` takes one gradient and at most `trials` measurements. Returns the objective before, and what was
    kept (pairs).
    """

    def propose(at: Slope, stiffness: float) -> Proposals:
        return _pairs(masked, at, stiffness)

    before = measured()
    found = Kept(before, 0, max(1, int(_SHARE * masked.changed)))
    for _ in range(rounds):
        kept = found.kept
        found = keep_what_helps(masked, propose, look(), measured, found, trials=trials, budget=budget)
        if found.kept == kept:
            break
    return before, found


def _pairs(masked: Masked, at: Slope, stiffness: float) -> Proposals:
    """Pair the best returns with the best departures while a pair helps: both are sorted, so gains only shrink."""
    moved = masked.moved
    out, into = returns(masked, at, stiffness), best_moves(masked, at, stiffness)
    outward = out.change.argsort()
    inward = into.change.masked_fill(moved, torch.inf)
    order = inward.argsort()
    gains = out.change[outward] + inward[order]
    helpful = int((gains < 0).sum())
    pairs = torch.stack([outward[:helpful], order[:helpful]], 1)
    return Proposals(pairs, torch.where(moved, masked.lattice.base, into.targets))
