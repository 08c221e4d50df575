"""Swaps: moved parameters that hardly matter return to the base, and as many that matter more leave it.

The number of changed parameters stays. What goes in is masked already, but stood at its base value: no swap leaves the
circuit's mask.
"""

import torch

from mansu.solve.finish.moves import Kept, Look, Measured, Proposals, Slope, best_moves, in_rounds, returns
from mansu.solve.masked import Masked


def swap(
    masked: Masked, look: Look, measured: Measured, *, rounds: int, trials: int, budget: float
) -> tuple[float, Kept]:
    """Exchange parameters in pairs, cheapest return with most helpful departure, while the measured objective falls.

    Each of `rounds` takes one gradient and at most `trials` measurements. Returns the objective before, and what was
    kept (pairs).
    """

    def propose(at: Slope, stiffness: float) -> Proposals:
        return _pairs(masked, at, stiffness)

    return in_rounds(masked, propose, look, measured, rounds=rounds, trials=trials, budget=budget)


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
