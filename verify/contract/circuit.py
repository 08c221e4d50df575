"""Circuits as data: the map that is drawn, in a result and by `mansu circuit`, and the document of that command."""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from verify.contract.schema import Estimate, FileDigest, Schema, Sha256

CIRCUIT_SCHEMA = "urn:mansu:circuit/v1"

MOST_EDGES = 60
"""Most edges of a map by their score before, and as many by their score after."""

WriterName = Annotated[str, StringConstraints(pattern=r"^(input|a\d{1,7}\.h\d{1,7}|m\d{1,7})$")]
ReaderName = Annotated[str, StringConstraints(pattern=r"^(a\d{1,7}\.[hk]\d{1,7}<[qkv]>|m\d{1,7}|logits)$")]

_PLACE = re.compile(r"a(?P<attention>\d+)\.(?P<kind>[hk])(?P<head>\d+)(?:<[qkv]>)?|m(?P<mlp>\d+)")


class Place(Schema):
    """Where a node stands: its layer and the heads that it is or serves; for an MLP no head."""

    layer: int
    first_head: int | None
    last_head: int | None


class MapEdge(Schema):
    """An edge by its ends, with its score before and after (null where nothing is compared)."""

    writer: WriterName
    reader: ReaderName
    before: float
    after: float | None = None


class CircuitMap(Schema):
    """A model's circuit as a map: a score for every node, and the strongest edges, before and after an edit.

    A node's score is the sum over its outgoing edges, which is its direct attribution: the change of the metric, to
    first order, when what it writes is what it writes on the corrupt prompt. Below zero: the node carries the answer.
    `before`, `after`: `input`, then each layer's heads and its MLP, then `logits` (the sum of what it reads).
    """

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    before: tuple[float, ...]
    after: tuple[float, ...] | None = None
    edges: Annotated[tuple[MapEdge, ...], Field(max_length=2 * MOST_EDGES)]

    @model_validator(mode="after")
    def _fits(self) -> "CircuitMap":
        nodes = self.layers * (self.heads + 1) + 2
        if self.heads % self.kv_heads:
            raise ValueError("the heads are no multiple of the key-value heads")
        if any(scores is not None and len(scores) != nodes for scores in (self.before, self.after)):
            raise ValueError(f"a map of this size has {nodes} nodes")
        for edge in self.edges:
            if (edge.after is None) != (self.after is None):
                raise ValueError("edges and nodes are compared together or not at all")
            self.place(edge.writer)
            self.place(edge.reader)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nodes in the order of their scores."""
        inner = (
            name
            for layer in range(self.layers)
            for name in [*(f"a{layer}.h{head}" for head in range(self.heads)), f"m{layer}"]
        )
        return ("input", *inner, "logits")

    def place(self, name: str) -> Place | None:
        """Return where a writer or reader stands, None for `input` and `logits`; ValueError if it is not there."""
        found = _PLACE.fullmatch(name)
        if found is None:
            return None
        layer = int(found["mlp"] or found["attention"])
        group = self.heads // self.kv_heads if found["kind"] == "k" else 1
        first = None if found["mlp"] else int(found["head"]) * group
        last = None if first is None else first + group - 1
        if layer >= self.layers or (last is not None and last >= self.heads):
            raise ValueError(f"{name} lies outside the map")
        return Place(layer=layer, first_head=first, last_head=last)


class NodeScore(Schema):
    """A node by its name, with its score before and after, and whether an edge of the circuit touches it."""

    name: str
    score: float
    after: float | None = None
    in_circuit: bool


class EdgeScore(Schema):
    """An edge of the circuit by its ends, with its score before and after."""

    writer: str
    reader: str
    score: float
    after: float | None = None


class SearchStep(Schema):
    """One circuit tried: the edges asked for, those left on paths from input to logits, and its faithfulness."""

    asked: int
    edges: int
    faithfulness: float


class Attributed(Schema):
    """One attributed model: its files, and on the attributed pairs its mean metric and its completeness residual."""

    files: tuple[FileDigest, ...]
    metric_clean: float
    metric_corrupt: float
    completeness_residual: float


class Divergences(Schema):
    """CAD, ρ, mass and relative L1 of the edited model over a set of the base's edges (docs/cad.md)."""

    over: Literal["the circuit", "the reference circuit"]
    edges: int
    cad: Estimate
    rho: Estimate
    mass: float
    relative_l1: float


class Comparison(Schema):
    """The edited model on the same pairs, and how far its circuit has moved."""

    model: Attributed
    divergences: tuple[Divergences, ...]


class CircuitDocument(Schema):
    """What `mansu circuit` writes: the smallest faithful circuit of a forget set in a model, and how it was found."""

    schema_: Literal["urn:mansu:circuit/v1"] = "urn:mansu:circuit/v1"
    engine: str
    model: Attributed
    forget_sha256: Sha256
    facts: int
    rule: Literal["left", "midpoint", "gauss", "clean", "corrupt", "exact"]
    points: int
    seed: int
    pairs: int
    held_out_pairs: int
    edges_total: int
    target: float
    faithfulness: float
    reached: bool
    trace: tuple[SearchStep, ...]
    nodes: tuple[NodeScore, ...]
    edges: tuple[EdgeScore, ...]
    after: Comparison | None = None
    map: CircuitMap
