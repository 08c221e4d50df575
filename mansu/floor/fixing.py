"""How masked parameters come to the values that are stored: by the floor, or as the ablations have it.

The floor is snapping (`levels`): every parameter ends on a valid level or at its base value (docs/floor.md). The
others are there to compare with, and `mansu-verify` refuses what they make:

- `unfrozen`: the same, with the absmax holders of blocks in the mask too. Values are valid as if the scales held; they
  do not, where a holder moves, and other codes of its block change.
- `bin_width`: the floor on the cumulative update, as we read the paper (arXiv 2605.15138): after training each update
  is scaled up to the bin width of its base's code. It ends where it ends, not on a level.
- `none`: a mask and no floor, as others have it. Values are rounded to the stored dtype.

All train at the same rates, and training is lengthened by the same rules.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mansu.config import FloorChoice
from mansu.floor.lattice import Lattice, snap


@dataclass(frozen=True, slots=True)
class Floor:
    """Which floor, and whether it is reached in portions. Only snapping can be: the others come after training."""

    choice: FloorChoice = "levels"
    progressive: bool = True

    @property
    def snaps(self) -> bool:
        """Whether parameters end on levels."""
        return self.choice in {"levels", "unfrozen"}

    def fix(
        self, grid: Lattice, master: Tensor, free: Tensor, share: float, *, stored: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the value of each parameter where it is fixed now (float32 `[n]`), and which are (bool `[n]`).

        `master` float32 and `free` bool are `[n]`. `share` of the free parameters is to be fixed; what is not
        progressive waits until it is all of them.
        """
        if share < 1 and not (self.snaps and self.progressive):
            return master, torch.zeros_like(free)
        if self.snaps:
            target, errors = grid.nearest(master)
            return target, snap(errors, free, share)
        return (scaled_up(grid, master, stored) if self.choice == "bin_width" else rounded(master, stored)), free


def rounded(values: Tensor, stored: torch.dtype) -> Tensor:
    """Return float32 values as `stored` represents them."""
    return values.to(stored).float()


def scaled_up(grid: Lattice, values: Tensor, stored: torch.dtype) -> Tensor:
    """Return values whose update has at least the bin width and the same sign, as `stored` represents them.

    An update of zero stays zero. Where the block's absmax is nearer than a bin width the value stops there, and the
    update is smaller: the one case in which this floor is not reached.
    """
    base = grid.base.double()
    move = values.double() - base
    nearest = (base + move.sign() * torch.maximum(move.abs(), grid.width)).to(stored)
    outward = torch.nextafter(nearest, torch.where(move > 0, torch.inf, -torch.inf).to(stored))
    short = (nearest.double() - base).abs() < grid.width  # rounded toward the base
    value = torch.where(short, outward, nearest).float()
    value = torch.maximum(torch.minimum(value, grid.scale), -grid.scale)
    return torch.where(move == 0, grid.base, value)
