"""Edge scores: what attribution returns, and what circuits and CAD are made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from verify.circuits.circuit import Circuit
from verify.circuits.graph import Graph
from verify.circuits.metrics import Metric, answer_minus_alternatives
from verify.circuits.names import Node, resolve_reader
from verify.circuits.pairs import Pair
from verify.errors import UsageError

Rule = Literal["left", "midpoint", "gauss", "clean", "corrupt"]
"""How the gradient is taken: integrated by one of three rules, or plain EAP's one gradient, at one of the ends."""


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Edge scores of one model on one list of pairs. Tensors are on the CPU.

    `rule` as asked for; `exact` where every edge was patched on its own (`exact_scores`). `points`: gradients taken.
    `scores` float32 [writers, readers]: mean over pairs; zero where no edge exists.
    `per_example` float32 [pairs, writers, readers] in the caller's order, or None.
    `neurons` float32 [layers, d_ff]: the same attribution at the down projections' inputs, mean over pairs, or None;
    a layer's sum equals the row sum of its MLP.
    `channels` float32 [layers, heads, head_dim]: the same at the output projections' inputs; a head's sum equals its
    row sum.
    `metric_clean`, `metric_corrupt` float32 [pairs].
    `residual`: completeness error Σ|input row sum − (m(corrupt) − m(clean))| / Σ|m(corrupt) − m(clean)| over pairs.
    `metric`: what was attributed. `runner`: how `run` reaches the model, which is not kept alive by its scores.
    """

    graph: Graph
    pairs: tuple[Pair, ...]
    rule: Rule | Literal["exact"]
    points: int
    scores: Tensor
    per_example: Tensor | None
    neurons: Tensor | None
    metric_clean: Tensor
    metric_corrupt: Tensor
    residual: float
    channels: Tensor | None = None
    metric: Metric = answer_minus_alternatives
    runner: Callable[[Circuit, Sequence[Pair]], float] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy without the model."""
        return self.__dict__ | {"runner": None}

    @cached_property
    def writers(self) -> tuple[Node, ...]:
        """Row names, in the order of computation."""
        return tuple(map(Node, self.graph.writers))

    @cached_property
    def readers(self) -> tuple[Node, ...]:
        """Column names, in the order of computation."""
        return tuple(map(Node, self.graph.readers))

    @property
    def real(self) -> Tensor:
        """Bool [writers, readers]: the edges that exist."""
        return self.graph.real

    def edge(self, writer: str, reader: str) -> float:
        """Return the score of one edge by its names, as `edge("a0.h1", "m2")`.

        `a3.h5<k>` is understood as the key-value head that serves head 5. Raises `UsageError` for an edge that does
        not exist.
        """
        reader = resolve_reader(self.graph, reader)
        if writer in self.graph.writers and reader in self.graph.readers:
            row, column = self.graph.writers.index(writer), self.graph.readers.index(reader)
            if self.graph.real[row, column]:
                return float(self.scores[row, column])
        raise UsageError(
            "no such edge", expected="a writer, and a reader that comes after it", found=f"{writer}→{reader}"
        )

    def run(self, circuit: Circuit, pairs: Sequence[Pair] | None = None) -> float:
        """Return the faithfulness of `circuit` on the attributed pairs, or on others, by the metric attributed.

        The model is run as it is now. Raises `UsageError` when it is gone, and as `faithfulness` does.
        """
        if self.runner is None:
            raise UsageError(
                "these scores have no model to run",
                expected="scores as `attribute` returned them",
                found="a copy, or scores made otherwise",
                remedy="call faithfulness(model, pairs, circuit)",
            )
        return self.runner(circuit, self.pairs if pairs is None else pairs)
