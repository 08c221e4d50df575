"""Circuits: sets of edges, and what of them lies on a path from the input to the logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from verify.circuits.graph import Graph, reader_node
from verify.errors import UsageError


@dataclass(frozen=True, eq=False)
class Circuit:
    """A set of edges of `graph`: `edges` bool [writers, readers], False where no edge exists."""

    graph: Graph
    edges: Tensor

    def __post_init__(self) -> None:
        """Refuse a mask of another shape, or with edges that do not exist, by `UsageError`."""
        real = self.graph.real
        if self.edges.dtype != torch.bool or self.edges.shape != real.shape:
            raise UsageError(
                "the circuit's mask does not fit its graph",
                expected=f"bool {tuple(real.shape)}",
                found=f"{self.edges.dtype} {tuple(self.edges.shape)}",
            )
        if bool((self.edges & ~real).any()):
            raise UsageError("the circuit names edges that do not exist in its graph")

    @property
    def size(self) -> int:
        """Number of edges."""
        return int(self.edges.sum())


def full_circuit(graph: Graph) -> Circuit:
    """Return the circuit of every edge."""
    return Circuit(graph, graph.real.clone())


def random_edges(graph: Graph, n: int, seed: int) -> Circuit:
    """Return `n` edges drawn without replacement, not pruned: the control for a circuit of the same size."""
    cells = graph.real.flatten().nonzero().squeeze(1)
    if not 0 <= n <= len(cells):
        raise UsageError("no such number of edges to draw", expected=f"0 to {len(cells)}", found=str(n))
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))
    return Circuit(graph, of_cells(graph, cells[order[:n]]))


def of_cells(graph: Graph, cells: Tensor) -> Tensor:
    """Return the mask, bool [writers, readers], of the edges with these flat indices."""
    edges = torch.zeros(graph.n_writers * graph.n_readers, dtype=torch.bool)
    edges[cells] = True
    return edges.view(graph.n_writers, graph.n_readers)


def prune(graph: Graph, edges: Tensor) -> Tensor:
    """Keep the edges (bool [writers, readers]) that lie on a path from the input to the logits.

    The edges of a path all survive with it, so one pass from each end suffices.
    """
    reached = torch.zeros(graph.n_writers, dtype=torch.bool)
    reached[0] = True
    leads = torch.zeros(graph.n_readers, dtype=torch.bool)
    leads[-1] = True
    # Alternating steps settle after at most one round per sublayer.
    for _ in range(2 * graph.layers):
        fed = edges[reached].any(0)
        reached |= graph.feeds[fed].any(0)
        useful = edges[:, leads].any(1)
        leads |= graph.feeds[:, useful].any(1)
    return edges & reached[:, None] & leads[None, :]


def nodes(circuit: Circuit) -> set[str]:
    """Return the names of the nodes that the circuit's edges touch.

    Heads `a{l}.h{h}` (writers and q readers), key-value heads `a{l}.k{k}`, MLPs `m{l}`, `input` and `logits`: the
    names that `owned_slices` understands.
    """
    graph = circuit.graph
    writers = circuit.edges.any(1).nonzero().flatten().tolist()
    readers = circuit.edges.any(0).nonzero().flatten().tolist()
    return {graph.writers[row] for row in writers} | {reader_node(graph.readers[column]) for column in readers}
