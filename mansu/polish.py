"""The last polish: parameters move between valid values alone, in batches that measuring confirms."""

from mansu.masked import Masked
from mansu.moves import Kept, Look, Measured, Proposals, Slope, best_moves, keep_what_helps

_SHARE = 0.05
"""The first batch, as a share of the changed parameters: large enough to matter, and halved when it fails."""


def polish(
    masked: Masked, look: Look, measured: Measured, *, rounds: int, trials: int, budget: float
) -> tuple[float, Kept]:
    """Move parameters between their valid values (base included) while the measured objective falls; never else.

    Each of `rounds` takes one gradient and at most `trials` measurements. Returns the objective before, and what was
    kept.
    """

    def propose(at: Slope, stiffness: float) -> Proposals:
        moves = best_moves(masked, at, stiffness)
        order = moves.change.argsort()[: int((moves.change < 0).sum())]
        return Proposals(order[:, None], moves.targets)

    before = measured()
    found = Kept(before, 0, max(1, int(_SHARE * masked.changed)))
    for _ in range(rounds):
        kept = found.kept
        found = keep_what_helps(masked, propose, look(), measured, found, trials=trials, budget=budget)
        if found.kept == kept:
            break
    return before, found
