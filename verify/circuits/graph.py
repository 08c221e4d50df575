"""The computational graph that edge scores live on: which nodes write to the residual stream and which read it.

Writers, in the order of computation: `input`, then per layer the attention heads `a{l}.h{h}` and the MLP `m{l}`.
Readers: per layer the query of every head `a{l}.h{h}<q>`, the key and the value of every key-value head
`a{l}.k{k}<k>` and `a{l}.k{k}<v>`, and the MLP's input `m{l}`; last the read-out `logits`.
Under grouped-query attention a key-value head serves a group of consecutive heads.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_READER = re.compile(r"(?P<node>[^<]+)(<[qkv]>)?")


@dataclass(frozen=True)
class Graph:
    """Names and order of writers (rows) and readers (columns) of a decoder with `layers` identical layers.

    `parallel`: the MLP of a layer reads what its attention reads, not what that attention writes.
    """

    layers: int
    heads: int
    kv_heads: int
    parallel: bool = False

    @property
    def group(self) -> int:
        """Query heads served by one key-value head."""
        return self.heads // self.kv_heads

    @property
    def n_writers(self) -> int:
        """Number of rows."""
        return 1 + self.layers * (self.heads + 1)

    @property
    def n_readers(self) -> int:
        """Number of columns."""
        return self.layers * (self.heads + 2 * self.kv_heads + 1) + 1

    def head_rows(self, layer: int) -> slice:
        """Rows of the heads of `layer`; every row before them is read by the layer's attention."""
        start = 1 + layer * (self.heads + 1)
        return slice(start, start + self.heads)

    def mlp_row(self, layer: int) -> int:
        """Row of the MLP of `layer`."""
        return 1 + layer * (self.heads + 1) + self.heads

    def read_by_mlp(self, layer: int) -> int:
        """How many rows, the first ones, the MLP of `layer` reads."""
        return self.head_rows(layer).start if self.parallel else self.mlp_row(layer)

    def attention_columns(self, layer: int) -> slice:
        """Columns of the q, k and v readers of `layer`, in this order."""
        start = layer * (self.heads + 2 * self.kv_heads + 1)
        return slice(start, start + self.heads + 2 * self.kv_heads)

    def layer_columns(self, layer: int) -> slice:
        """Columns of all readers of `layer`: q, k, v and last the MLP."""
        return slice(self.attention_columns(layer).start, self.mlp_column(layer) + 1)

    def projection_columns(self, layer: int) -> tuple[slice, slice, slice]:
        """Columns of the q readers, the k readers and the v readers of `layer`."""
        q = self.attention_columns(layer).start
        k, v = q + self.heads, q + self.heads + self.kv_heads
        return slice(q, k), slice(k, v), slice(v, v + self.kv_heads)

    def mlp_column(self, layer: int) -> int:
        """Column of the MLP reader of `layer`."""
        return (layer + 1) * (self.heads + 2 * self.kv_heads + 1) - 1

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Row names."""
        names = ["input"]
        for layer in range(self.layers):
            names += [f"a{layer}.h{head}" for head in range(self.heads)]
            names.append(f"m{layer}")
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Column names."""
        names = []
        for layer in range(self.layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.heads)]
            names += [f"a{layer}.k{head}<k>" for head in range(self.kv_heads)]
            names += [f"a{layer}.k{head}<v>" for head in range(self.kv_heads)]
            names.append(f"m{layer}")
        return (*names, "logits")

    @cached_property
    def real(self) -> Tensor:
        """Bool [writers, readers]: the edges that exist. A reader sees only what was written before it."""
        mask = torch.zeros(self.n_writers, self.n_readers, dtype=torch.bool)
        for layer in range(self.layers):
            mask[: self.head_rows(layer).start, self.attention_columns(layer)] = True
            mask[: self.read_by_mlp(layer), self.mlp_column(layer)] = True
        mask[:, -1] = True
        return mask

    @cached_property
    def feeds(self) -> Tensor:
        """Bool [readers, writers]: what a reader reads enters what that writer writes (k and v: a whole group)."""
        mask = torch.zeros(self.n_readers, self.n_writers, dtype=torch.bool)
        for layer in range(self.layers):
            q, k, v = self.projection_columns(layer)
            row = self.head_rows(layer).start
            for head in range(self.heads):
                served = head // self.group
                mask[[q.start + head, k.start + served, v.start + served], row + head] = True
            mask[self.mlp_column(layer), self.mlp_row(layer)] = True
        return mask


def reader_node(reader: str) -> str:
    """Return the node a reader belongs to: `a1.h0<q>` -> `a1.h0`, `a1.k0<v>` -> `a1.k0`, `m1` -> `m1`."""
    match = _READER.fullmatch(reader)
    assert match is not None
    return match["node"]
