"""Edge attribution by EAP-IG on Hugging Face models, circuits, and Circuit Attribution Divergence (CAD)."""

from verify.circuits.attribution import attribute
from verify.circuits.cad import Bootstrap, Divergence, Interval, bootstrap, cad, compare, split_half_floor
from verify.circuits.circuit import Circuit, full_circuit, nodes, prune, random_edges
from verify.circuits.exact import exact_scores
from verify.circuits.extraction import Extraction, greedy_edges, top_edges
from verify.circuits.families import Family, OwnedSlice, describe, owned_slices, swapped
from verify.circuits.graph import Graph
from verify.circuits.invariants import checked
from verify.circuits.metrics import Metric, answer_log_probability, answer_logit, answer_minus_alternatives
from verify.circuits.names import Node
from verify.circuits.pairs import Pair
from verify.circuits.patching import faithfulness, patched_metric, patched_metrics
from verify.circuits.running import Subject, last_only
from verify.circuits.scores import EdgeScores
from verify.circuits.smallest import FaithfulCircuit, Step, smallest_faithful

__all__ = [
    "Bootstrap",
    "Circuit",
    "Divergence",
    "EdgeScores",
    "Extraction",
    "FaithfulCircuit",
    "Family",
    "Graph",
    "Interval",
    "Metric",
    "Node",
    "OwnedSlice",
    "Pair",
    "Step",
    "Subject",
    "answer_log_probability",
    "answer_logit",
    "answer_minus_alternatives",
    "attribute",
    "bootstrap",
    "cad",
    "checked",
    "compare",
    "describe",
    "exact_scores",
    "faithfulness",
    "full_circuit",
    "greedy_edges",
    "last_only",
    "nodes",
    "owned_slices",
    "patched_metric",
    "patched_metrics",
    "prune",
    "random_edges",
    "smallest_faithful",
    "split_half_floor",
    "swapped",
    "top_edges",
]
