"""Edge attribution by EAP-IG on Hugging Face models, circuits, and Circuit Attribution Divergence (CAD)."""

from verify.circuits.attribution import attribute
from verify.circuits.cad import Bootstrap, Divergence, Interval, bootstrap, cad, compare, split_half_floor
from verify.circuits.circuit import Circuit, full_circuit, nodes, prune, random_edges, top_edges
from verify.circuits.families import Family, OwnedSlice, describe, owned_slices, swapped
from verify.circuits.graph import Graph
from verify.circuits.pairs import Pair
from verify.circuits.patching import FaithfulCircuit, Step, faithfulness, patched_metric, smallest_faithful
from verify.circuits.running import last_only
from verify.circuits.scores import EdgeScores

__all__ = [
    "Bootstrap",
    "Circuit",
    "Divergence",
    "EdgeScores",
    "FaithfulCircuit",
    "Family",
    "Graph",
    "Interval",
    "OwnedSlice",
    "Pair",
    "Step",
    "attribute",
    "bootstrap",
    "cad",
    "compare",
    "describe",
    "faithfulness",
    "full_circuit",
    "last_only",
    "nodes",
    "owned_slices",
    "patched_metric",
    "prune",
    "random_edges",
    "smallest_faithful",
    "split_half_floor",
    "swapped",
    "top_edges",
]
