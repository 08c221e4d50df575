"""What an edit adds to the outputs of its layers on retain inputs: E‖ΔW x‖² = tr(ΔW M ΔWᵀ), M = E[xxᵀ].

Lemma 1 of docs/retain-bound.md, with its split along the directions that the engine takes out
(`mansu.retain.null_space`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mansu.retain_bound.document import BlockLeak
from mansu.retain_bound.edit import Edits, LayerEdit


@dataclass(frozen=True, slots=True)
class Split:
    """One layer: the `leak` per token, its `bound` by the split, and the parts of leak and ‖ΔW‖² in the null space."""

    leak: float
    bound: float
    kept_leak: float
    kept_weight: float
    weight: float
    isotropic: float


class Moments:
    """Streams Σ xxᵀ of each edited layer's input, float32 `[in, in]`; layers that read one tensor share one."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._last: tuple[Tensor, str] | None = None
        self._tokens: dict[str, int] = defaultdict(int)

    def listen(self, name: str, x: Tensor) -> None:
        """Add the inputs `[.., in]` of a layer."""
        if self._last is not None and self._last[0].data_ptr() == x.data_ptr() and self._last[0].shape == x.shape:
            self._sums[name] = self._sums[self._last[1]]
            self._tokens[name] = self._tokens[self._last[1]]
            return
        rows = x.reshape(-1, x.shape[-1]).float()
        if name not in self._sums:
            self._sums[name] = torch.zeros(x.shape[-1], x.shape[-1])
        self._sums[name].addmm_(rows.T, rows)
        self._tokens[name] += rows.shape[0]
        self._last = (x, name)  # held, so that its memory is nobody else's meanwhile

    def splits(self, edits: Edits, energy: float) -> dict[str, Split]:
        """Return each layer's split; `energy` is the share that the removed directions hold, as the engine's."""
        found: dict[str, Split] = {}
        done: dict[int, tuple[Tensor, Tensor]] = {}
        for name, edit in edits.items():
            total = self._sums[name]
            if id(total) not in done:
                values, vectors = torch.linalg.eigh(total / self._tokens[name])
                done[id(total)] = values, vectors
            found[name] = split(edit, *done[id(total)], energy)
        return found


def split(edit: LayerEdit, values: Tensor, vectors: Tensor, energy: float) -> Split:
    """Split a layer's leak along the eigenvectors (columns) of M, `values` ascending."""
    values = values.double().clamp(min=0)
    along = (edit.delta @ vectors).double().square().sum(0)
    kept = values.cumsum(0) / values.sum() <= 1 - energy
    threshold = float(values[kept].max()) if kept.any() else 0.0
    kept_weight = float(along[kept].sum())
    return Split(
        leak=float((values * along).sum()),
        bound=float(values[-1]) * float(along[~kept].sum()) + threshold * kept_weight,
        kept_leak=float((values * along)[kept].sum()),
        kept_weight=kept_weight,
        weight=float(along.sum()),
        isotropic=float(along.sum() * values.mean()),
    )


def by_block(edits: Edits, splits: dict[str, Split]) -> tuple[BlockLeak, ...]:
    """Sum the layers of each decoder layer."""
    blocks: dict[int, list[Split]] = defaultdict(list)
    for name, each in splits.items():
        blocks[edits[name].block].append(each)
    return tuple(_block(number, parts) for number, parts in sorted(blocks.items()))


def _block(number: int, parts: Sequence[Split]) -> BlockLeak:
    leak = sum(part.leak for part in parts)
    return BlockLeak(
        block=number,
        leak=leak,
        bound=sum(part.bound for part in parts),
        kept_weight=sum(part.kept_weight for part in parts) / sum(part.weight for part in parts),
        kept_leak=sum(part.kept_leak for part in parts) / leak if leak else 0.0,
        isotropic=sum(part.isotropic for part in parts),
    )
