"""Error compensation: what a snap does to a layer's retain outputs, made up for by its still free parameters.

A snap moves the fixed parameters S of a row by errors e_S, and with them the row's output by e_S·x_S on an input x. The
free parameters F of the row take the part of it that they can: δ_F = −(H_FF + λ)⁻¹ H_FS e_S minimises E[((e + δ)·x)²] +
λ|δ|², where H = E[xxᵀ] over the retain inputs. It is the update of optimal brain surgeon and of GPTQ (arXiv 2210.17323)
for a few masked parameters of a row instead of all of them.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mansu.solve.masked import Masked

DAMPING = 0.01
"""λ as a share of the mean of H's diagonal, as GPTQ has it."""
_ENTRIES = 4_000_000
"""Most entries of the systems that are solved at once (16 MB each of the three that exist at a time)."""


def compensate(masked: Masked, errors: Tensor, moments: Mapping[str, Tensor], reach: float) -> None:
    """Move the free parameters so that what `errors` `[n]` (target − trained, zero where not fixed) did is made up for.

    `moments` are H by layer name, float32 `[in, in]`, up to a factor. Values stay within `reach` of their block's
    absmax. The model is not written.
    """
    delta = torch.zeros_like(errors)
    for name, part in masked.slices.items():
        free = masked.free[part]
        delta[part] = compensation(masked.indices[name], errors[part], free, moments[name])
    limit = masked.lattice.scale * reach
    moved = torch.maximum(torch.minimum(masked.master + delta, limit), -limit)
    masked.master = torch.where(masked.free, moved, masked.master)


def compensation(indices: Tensor, errors: Tensor, free: Tensor, moment: Tensor, damping: float = DAMPING) -> Tensor:
    """Return δ float32 `[n]` of one layer, zero outside `free`.

    `indices` are flat positions in its weight (int64, sorted), `moment` is H `[in, in]`; `errors` are not zero only
    where `free` is false.
    """
    delta = torch.zeros_like(errors)
    scale = float(moment.diagonal().mean())
    if scale == 0:  # an input that is never there: no output to keep
        return delta
    width = moment.shape[0]
    for places in _rows(indices // width, errors, free):
        columns = indices[places] % width
        loose = (free[places] & (places >= 0)).float()
        error = errors[places].masked_fill(places < 0, 0)
        hessian = moment[columns[:, :, None], columns[:, None, :]] / scale
        pulled = -loose * (hessian @ error[:, :, None])[:, :, 0]
        system = hessian * loose[:, :, None] * loose[:, None, :]
        system.diagonal(dim1=1, dim2=2).add_(loose * damping + (1 - loose))
        found = torch.cholesky_solve(pulled[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
        taken = loose > 0
        delta[places[taken]] = found[taken]
    return delta


def _rows(rows: Tensor, errors: Tensor, free: Tensor) -> Iterator[Tensor]:
    """Yield int64 `[r, m]`: the positions of r rows' parameters that matter, −1 where a row has fewer than m.

    Rows with nothing to make up for, or nothing free, are left out, and so are parameters fixed without an error.
    """
    owed = torch.zeros(int(rows.max()) + 1 if rows.numel() else 0, dtype=torch.bool)
    able = owed.clone()
    owed[rows[errors != 0]] = True
    able[rows[free]] = True
    places = ((owed & able)[rows] & (free | (errors != 0))).nonzero().reshape(-1)
    if not places.numel():
        return
    counts = rows[places].bincount()
    counts = counts[counts > 0]  # in the rows' order, for places are sorted
    starts = counts.cumsum(0) - counts
    order = counts.argsort()  # rows of like size share a batch: little is padded
    done = 0
    while done < order.numel():
        # the largest row of a batch decides its size; the next batch can only be of larger rows
        size = order.numel() - done
        while size > 1 and size * int(counts[order[done + size - 1]]) ** 2 > _ENTRIES:
            size = max(1, size // 2)
        batch = order[done : done + size]
        within = torch.arange(int(counts[batch[-1]]))[None, :]
        inside = within < counts[batch][:, None]
        yield places[(starts[batch][:, None] + within).clamp(max=places.numel() - 1)].masked_fill(~inside, -1)
        done += size
