"""Llama, Mistral, Qwen2, Qwen3: RMS norms, separate q, k and v, a gated MLP; Qwen3's q and k norms follow the rows."""

from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, Norm, Rows
from verify.circuits.graph import Graph


def describe_llama(model: nn.Module) -> Family:
    """Describe a model whose modules are named as Llama's."""
    config: Any = model.config
    head_dim = head_dim_of(config)
    sites = tuple(
        LayerSites(
            attention_norm=Norm(f"{layer}.input_layernorm", config.rms_norm_eps),
            query=Rows(f"{layer}.self_attn.q_proj", head_dim, head_dim),
            key=Rows(f"{layer}.self_attn.k_proj", head_dim, head_dim),
            value=Rows(f"{layer}.self_attn.v_proj", head_dim, head_dim),
            output=f"{layer}.self_attn.o_proj",
            mlp_norm=Norm(f"{layer}.post_attention_layernorm", config.rms_norm_eps),
            mlp=f"{layer}.mlp",
            inner=(Rows(f"{layer}.mlp.gate_proj", 1, 1), Rows(f"{layer}.mlp.up_proj", 1, 1)),
            down=f"{layer}.mlp.down_proj",
        )
        for layer in (f"model.layers.{index}" for index in range(config.num_hidden_layers))
    )
    return llama_frame(model, sites)


def head_dim_of(config: Any) -> int:
    """Return the width of one head, which need not divide that of the model."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def llama_frame(
    model: nn.Module, sites: tuple[LayerSites, ...], *, shift: float = 0.0, d_ff: int | None = None
) -> Family:
    """Return the family of `sites` in a model whose embedding, final norm and sizes are named as Llama's."""
    config: Any = model.config
    return Family(
        architecture=type(model).__name__,
        graph=Graph(layers=len(sites), heads=int(config.num_attention_heads), kv_heads=int(config.num_key_value_heads)),
        vocabulary=int(config.vocab_size),
        width=int(config.hidden_size),
        head_dim=head_dim_of(config),
        d_ff=int(config.intermediate_size) if d_ff is None else d_ff,
        embedding="model.embed_tokens",
        layers="model.layers",
        final_norm=Norm("model.norm", config.rms_norm_eps, shift=shift),
        unembedding="lm_head",
        sites=sites,
    )
