"""The words in which a family is described: norms, rows of projections, the sites of a layer, the whole model.

Nothing here knows any family; nothing in a family's file computes anything but names and sizes.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from verify.circuits.graph import Graph


@dataclass(frozen=True)
class Norm:
    """A norm over the residual stream: y = (x − mean if `centred`) / sqrt(mean square + eps) · (shift + weight) + bias.

    `centred` False is an RMS norm, True a LayerNorm; `shift` is 1 where the stored weight is the gain less one (Gemma).
    The bias is the module's own, where it has one.
    """

    name: str
    eps: float
    centred: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Rows:
    """Which outputs of the linear layer `module` belong to unit i, a head or a neuron: `size` from start + i · stride.

    This covers separate projections, blocks of a fused one (start) and heads that interleave (stride).
    """

    module: str
    size: int
    stride: int
    start: int = 0

    def of(self, unit: int) -> range:
        """Return the outputs of one unit."""
        first = self.start + unit * self.stride
        return range(first, first + self.size)

    def outputs(self, values: Tensor, units: int) -> Tensor:
        """View outputs of the layer [..., out] by unit, [..., units, size]."""
        return values[..., self.start :].unfold(-1, self.size, self.stride)[..., :units, :]

    def weights(self, matrix: Tensor, units: int) -> Tensor:
        """View the layer's weight [out, in] by unit, [units, size, in]."""
        return matrix[self.start :].unfold(0, self.size, self.stride)[:units].transpose(1, 2)


class OwnedSlice(NamedTuple):
    """A range along `dim` of a weight as stored: the tensor `parameter` of `module`.

    A torch Linear stores [outputs, inputs], GPT-2's Conv1D [inputs, outputs], experts [experts, outputs, inputs].
    """

    module: str
    dim: int
    span: range
    parameter: str = "weight"


@dataclass(frozen=True)
class LayerSites:
    """One decoder layer: what reads, what writes, and through which modules.

    `query`, `key`, `value`: rows by head (key and value by kv head). `output`: the linear layer that reads the heads,
    head h at inputs h · head_dim and on, and writes to the residual stream.
    `mlp`: the module whose output the MLP writes. `inner`: the rows by neuron of the layers that feed the neurons (gate
    and up), `down`: the linear layer that reads neuron i at input i; `inner` is empty and `down` None where an MLP is a
    mixture of experts, whose weights are named by `experts`.
    `attention_post`, `mlp_post`: RMS norms that what was written passes before it reaches the stream (post-norms).
    """

    attention_norm: Norm
    query: Rows
    key: Rows
    value: Rows
    output: str
    mlp_norm: Norm
    mlp: str
    inner: tuple[Rows, ...] = ()
    down: str | None = None
    experts: tuple[OwnedSlice, ...] = ()
    attention_post: Norm | None = None
    mlp_post: Norm | None = None

    @property
    def attention_writer(self) -> str:
        """The module whose output the attention adds to the residual stream."""
        return self.attention_post.name if self.attention_post else self.output

    @property
    def mlp_writer(self) -> str:
        """The module whose output the MLP adds to the residual stream."""
        return self.mlp_post.name if self.mlp_post else self.mlp

    @property
    def linears(self) -> tuple[str, ...]:
        """The linear layers of which nodes own rows or columns, each once."""
        names = [rows.module for rows in (self.query, self.key, self.value, *self.inner)] + [self.output]
        return tuple(dict.fromkeys(names + ([self.down] if self.down else [])))


@dataclass(frozen=True)
class Family:
    """The anatomy of one model: its graph, its sizes and the names of its modules.

    `d_ff`: neurons of an MLP, 0 where it is a mixture of experts. `turned`: linear layers store [inputs, outputs].
    """

    architecture: str
    graph: Graph
    vocabulary: int
    width: int
    head_dim: int
    d_ff: int
    embedding: str
    layers: str
    final_norm: Norm
    unembedding: str
    sites: tuple[LayerSites, ...]
    turned: bool = False
