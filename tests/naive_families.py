"""Patched runs by a second, naive route: every reader's input by explicit sums, head by head, no hooks.

The families' attention and MLPs are read from the models' classes, not from the descriptions under test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from verify.circuits import Circuit, Graph, Pair


@dataclass(frozen=True)
class NaiveLayer:
    """One layer: `project` gives q, k and v [1, T, heads, head_dim]; `out` is [width, heads · head_dim]."""

    norm: nn.Module
    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor] | None]
    scale: float
    out: Tensor
    bias: Tensor | float
    mlp_norm: nn.Module
    mlp: nn.Module
    query_norm: nn.Module | None = None
    key_norm: nn.Module | None = None
    post: nn.Module | None = None
    mlp_post: nn.Module | None = None
    window: int = 10**6
    cap: float | None = None


def rotated(x: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
    """Turn the first dimensions of x [1, heads, T, head_dim] by position, as many as there are angles."""
    if angles is None:
        return x
    cosine, sine = (angle[:, None] for angle in angles)
    turned, kept = x[..., : cosine.shape[-1]], x[..., cosine.shape[-1] :]
    half = turned.shape[-1] // 2
    other = torch.cat([-turned[..., half:], turned[..., :half]], -1)
    return torch.cat([turned * cosine + other * sine, kept], -1)


def naive_layers(model: Any) -> list[NaiveLayer]:
    """Return the layers of a model of any family."""
    if hasattr(model, "transformer"):
        return [_gpt2(block) for block in model.transformer.h]
    if hasattr(model, "gpt_neox"):
        return [_neox(block, model.gpt_neox.rotary_emb) for block in model.gpt_neox.layers]
    return [_llama(block, model) for block in model.model.layers]


def _gpt2(block: Any) -> NaiveLayer:
    def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (x @ block.attn.c_attn.weight + block.attn.c_attn.bias).chunk(3, -1)
        return q.unflatten(-1, (4, -1)), k.unflatten(-1, (4, -1)), v.unflatten(-1, (4, -1))

    out = block.attn.c_proj
    return NaiveLayer(
        block.ln_1, project, lambda *_: None, block.attn.scaling, out.weight.T, out.bias, block.ln_2, block.mlp
    )


def _neox(block: Any, rotary: Any) -> NaiveLayer:
    at = block.attention

    def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_head = at.query_key_value(x).view(1, -1, 4, 3, at.head_size)
        return by_head[:, :, :, 0], by_head[:, :, :, 1], by_head[:, :, :, 2]

    out, norms = at.dense, (block.input_layernorm, block.post_attention_layernorm)
    return NaiveLayer(norms[0], project, rotary, at.scaling, out.weight, out.bias, norms[1], block.mlp)


def _llama(block: Any, model: Any) -> NaiveLayer:
    at, config = block.self_attn, model.config
    gemma = hasattr(block, "pre_feedforward_layernorm")

    def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if hasattr(at, "qkv_proj"):
            by_head = at.qkv_proj(x).unflatten(-1, (-1, at.head_dim))
            return by_head[:, :, :4], by_head[:, :, 4:6], by_head[:, :, 6:]
        q, k, v = (part(x).unflatten(-1, (-1, at.head_dim)) for part in (at.q_proj, at.k_proj, at.v_proj))
        return q, k, v

    def rotary(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        kind = (at.layer_type,) if type(model).__name__.startswith("Gemma3") else ()
        return model.model.rotary_emb(x, positions, *kind)

    window = at.sliding_window if gemma else getattr(config, "sliding_window", None)
    return NaiveLayer(
        norm=block.input_layernorm,
        project=project,
        rotary=rotary,
        scale=at.scaling,
        out=at.o_proj.weight,
        bias=0.0 if at.o_proj.bias is None else at.o_proj.bias,
        mlp_norm=block.pre_feedforward_layernorm if gemma else block.post_attention_layernorm,
        mlp=block.mlp,
        query_norm=getattr(at, "q_norm", None),
        key_norm=getattr(at, "k_norm", None),
        post=block.post_attention_layernorm if gemma else None,
        mlp_post=block.post_feedforward_layernorm if gemma else None,
        window=window or 10**6,
        cap=getattr(at, "attn_logit_softcapping", None),
    )


def interpreted(model: Any, pair: Pair, circuit: Circuit) -> float:
    """Return the metric of the clean run with every edge outside the circuit corrupt."""
    with torch.no_grad():
        corrupt = NaiveRun.of(model, pair.corrupt, circuit, None)
        corrupt.forward(model)
        logits = NaiveRun.of(model, pair.clean, circuit, corrupt).forward(model)
    return float(logits[pair.answer] - logits[list(pair.alternatives)].mean())


@dataclass
class NaiveRun:
    """One run. `wrote`: what each writer adds to the stream; `raw`: the same before a post-norm, and all before it."""

    circuit: Circuit
    other: "NaiveRun | None"
    fixed: Tensor
    wrote: dict[str, Tensor]
    raw: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, ids: tuple[int, ...], circuit: Circuit, other: "NaiveRun | None") -> "NaiveRun":
        start = model.get_input_embeddings()(torch.tensor([ids]))
        positions = model.transformer.wpe.weight[: len(ids)] if hasattr(model, "transformer") else 0
        return cls(circuit, other, torch.zeros_like(start) + positions, {"input": start})

    @property
    def graph(self) -> Graph:
        return self.circuit.graph

    def read(self, column: int) -> Tensor:
        """Sum what a reader sees: the live activation of kept writers, the corrupt one of the others."""
        total = self.fixed.clone()
        for row in self.graph.real[:, column].nonzero().flatten().tolist():
            kept = self.other is None or bool(self.circuit.edges[row, column])
            source = self if kept or self.other is None else self.other
            total = total + source.wrote[self.graph.writers[row]]
        return total

    def write(self, key: str, parts: dict[str, Tensor], shared: Tensor | float, norm: Any) -> None:
        """Add what writers give and what they share; a post-norm's change is shared out by the product rule for r·y."""
        self.raw.update(parts)
        y = self.raw[key] = torch.stack(list(parts.values())).sum(0) + shared
        if norm is None:
            self.wrote.update(parts)
            self.fixed = self.fixed + shared
            return
        if self.other is None:
            self.wrote.update(dict.fromkeys(parts, torch.zeros_like(y)) | {next(iter(parts)): norm(y)})
            return
        before = self.other.raw[key]
        rates = [(value.square().mean(-1, keepdim=True) + norm.eps) ** -0.5 for value in (y, before)]
        middle = (y + before) / 2
        along = (middle * (y - before)).sum(-1, keepdim=True)
        for name, part in parts.items():
            step = part - self.other.raw[name]
            share = torch.where(along == 0, 0, (middle * step).sum(-1, keepdim=True) / along)
            change = (rates[0] + rates[1]) / 2 * step + middle * (rates[0] - rates[1]) * share
            self.wrote[name] = self.other.wrote[name] + change * (1 + norm.weight)

    def mix(self, layer: int, at: NaiveLayer) -> Tensor:
        """Return what attention mixes for each head, [heads, T, head_dim]."""
        queries, keys, values = (
            torch.stack(
                [
                    at.project(at.norm(self.read(column)))[part][:, :, unit]
                    for unit, column in enumerate(range(columns.start, columns.stop))
                ],
                1,
            )
            for part, columns in enumerate(self.graph.projection_columns(layer))
        )
        positions = torch.arange(queries.shape[2])[None]
        if at.query_norm is not None and at.key_norm is not None:
            queries, keys = at.query_norm(queries), at.key_norm(keys)
        angles = at.rotary(self.fixed, positions)
        queries, keys = rotated(queries, angles), rotated(keys, angles)
        keys, values = (x.repeat_interleave(self.graph.group, 1) for x in (keys, values))
        logits = queries @ keys.transpose(2, 3) * at.scale
        if at.cap is not None:
            logits = at.cap * torch.tanh(logits / at.cap)
        gap = positions.T - positions
        pattern = logits.masked_fill((gap < 0) | (gap >= at.window), float("-inf")).softmax(-1)
        return (pattern @ values)[0]

    def forward(self, model: Any) -> Tensor:
        """Run; return the logits at the last position."""
        for layer, at in enumerate(naive_layers(model)):
            parallel = self.read(self.graph.mlp_column(layer)) if self.graph.parallel else None
            mixed = self.mix(layer, at)
            columns = at.out.chunk(len(mixed), 1)
            heads = {f"a{layer}.h{h}": (mixed[h] @ columns[h].T)[None] for h in range(len(mixed))}
            self.write(f"a{layer}", heads, at.bias, at.post)
            stream = self.read(self.graph.mlp_column(layer)) if parallel is None else parallel
            self.write(f"m{layer} whole", {f"m{layer}": at.mlp(at.mlp_norm(stream))}, 0.0, at.mlp_post)
        logits = model.lm_head(final_norm(model)(self.read(self.graph.n_readers - 1)))[0, -1]
        cap = getattr(model.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def final_norm(model: Any) -> nn.Module:
    if hasattr(model, "transformer"):
        return model.transformer.ln_f
    return model.gpt_neox.final_layer_norm if hasattr(model, "gpt_neox") else model.model.norm
