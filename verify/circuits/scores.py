"""Edge scores: what attribution returns, and what circuits and CAD are made from."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from verify.circuits.graph import Graph
from verify.circuits.pairs import Pair

Rule = Literal["left", "midpoint", "gauss"]


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Edge scores of one model on one list of pairs. Tensors are on the CPU.

    `scores` float32 [writers, readers]: mean over pairs; zero where no edge exists.
    `per_example` float32 [pairs, writers, readers] in the caller's order, or None.
    `neurons` float32 [layers, d_ff]: the same attribution at the down projections' inputs, mean over pairs, or None;
    a layer's sum equals the row sum of its MLP.
    `metric_clean`, `metric_corrupt` float32 [pairs].
    `residual`: completeness error Σ|input row sum − (m(corrupt) − m(clean))| / Σ|m(corrupt) − m(clean)| over pairs.
    """

    graph: Graph
    pairs: tuple[Pair, ...]
    rule: Rule
    points: int
    scores: Tensor
    per_example: Tensor | None
    neurons: Tensor | None
    metric_clean: Tensor
    metric_corrupt: Tensor
    residual: float

    @property
    def writers(self) -> tuple[str, ...]:
        """Row names."""
        return self.graph.writers

    @property
    def readers(self) -> tuple[str, ...]:
        """Column names."""
        return self.graph.readers

    @property
    def real(self) -> Tensor:
        """Bool [writers, readers]: the edges that exist."""
        return self.graph.real
