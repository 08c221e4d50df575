"""The last polish: parameters move between valid values alone, in batches that measuring confirms."""

from mansu.solve.finish.moves import Kept, Look, Measured, Proposals, Slope, best_moves, in_rounds
from mansu.solve.masked import Masked


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

    return in_rounds(masked, propose, look, measured, rounds=rounds, trials=trials, budget=budget)
