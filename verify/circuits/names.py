"""Names of writers and readers as types: what kind of node, in which layer, which head, and what it reads there."""

import re
from typing import Any, Literal, Self

from verify.circuits.graph import Graph
from verify.errors import UsageError

Kind = Literal["input", "head", "mlp", "logits"]
Port = Literal["q", "k", "v"]

_NAME = re.compile(r"(?P<end>input|logits)|a(?P<al>\d+)\.[hk](?P<head>\d+)(<(?P<port>[qkv])>)?|m(?P<ml>\d+)")


class Node(str):
    """A writer or reader: its name, as any other string, with its parts as attributes.

    `input`; `a3.h1`, a head's output; `a3.h1<q>`, a head's query; `a3.k0<k>` and `a3.k0<v>`, key and value of a
    key-value head (one serves several heads under grouped-query attention); `m7`; `logits`.
    Raises `UsageError` for any other name.
    """

    __slots__ = ("head", "kind", "layer", "port")

    kind: Kind
    layer: int | None
    """None for `input` and `logits`."""
    head: int | None
    """The head, or for `<k>` and `<v>` the key-value head; None for all but heads."""
    port: Port | None
    """What a head reads here; None for writers, MLPs and `logits`."""

    def __new__(cls, name: str) -> Self:
        """Read the parts off the name."""
        match: Any = _NAME.fullmatch(name)
        if match is None:
            raise UsageError("no such node", expected="input, a3.h1, a3.h1<q>, a3.k0<k>, m7 or logits", found=name)
        self = super().__new__(cls, name)
        layer, head = match["al"] or match["ml"], match["head"]
        self.kind = match["end"] or ("mlp" if head is None else "head")
        self.layer = None if layer is None else int(layer)
        self.head = None if head is None else int(head)
        self.port = match["port"]
        return self

    def __getnewargs__(self) -> tuple[str]:
        """Copy and pickle as the name."""
        return (str(self),)


def resolve_reader(graph: Graph, name: str) -> str:
    """Return the graph's own name of a reader: `a3.h5<k>` is the key of the key-value head that serves head 5."""
    node = Node(name)
    if node.port in {"k", "v"} and ".h" in name and node.head is not None:
        return f"a{node.layer}.k{node.head // graph.group}<{node.port}>"
    return name
