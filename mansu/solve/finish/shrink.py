"""The smallest change that forgets as well: moves that hardly matter return to the base while measuring agrees."""

from collections.abc import Callable

from torch import Tensor

from mansu.solve.masked import Masked


def shrink(masked: Masked, order: Tensor, enough: Callable[[], bool], *, trials: int) -> int:
    """Return as many moves to the base, in `order`, as `enough()` allows, found by bisection; tell how many.

    `order` int64 holds the moved parameters' positions in the mask, least useful first. `enough` measures the model as
    it stands. The model ends where it last said yes, or as it was.
    """
    at = best = masked.master
    low, high = 0, order.numel()  # all of them: that is the base, which knows
    for _ in range(trials):
        count = (low + high) // 2
        if count == low:
            break
        masked.set(returned(masked, at, order[:count]))
        if enough():
            best, low = masked.master, count
        else:
            high = count
    masked.set(best)
    return low


def least_useful(masked: Masked, curvature: Tensor) -> Tensor:
    """Return the moved parameters, least useful first, by ½ h Δ²: int64 positions in the mask.

    This is optimal brain damage (LeCun et al. 1990), with the base in the place of zero. `curvature` float32 `[n]` is
    of forgetting and of retention at the edit. The slope there misleads: docs/solver.md has other orders, measured.
    """
    cost = curvature * (masked.master - masked.lattice.base).square()
    places = masked.moved.nonzero().reshape(-1)
    return places[cost[places].argsort(stable=True)]


def returned(masked: Masked, values: Tensor, places: Tensor) -> Tensor:
    """Return the values `[n]` with those at `places` back at the base."""
    values = values.clone()
    values[places] = masked.lattice.base[places]
    return values
