"""Phi-3: as Llama, with q, k and v in one projection (all q, then all k, then all v) and gate and up in another."""

from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, Norm, Rows
from verify.circuits.families.llama import head_dim_of, llama_frame


def describe_phi3(model: nn.Module) -> Family:
    """Describe a Phi-3."""
    config: Any = model.config
    dim, heads, kv_heads = head_dim_of(config), config.num_attention_heads, config.num_key_value_heads
    sites = tuple(
        LayerSites(
            attention_norm=Norm(f"{layer}.input_layernorm", config.rms_norm_eps),
            query=Rows(f"{layer}.self_attn.qkv_proj", dim, dim),
            key=Rows(f"{layer}.self_attn.qkv_proj", dim, dim, start=heads * dim),
            value=Rows(f"{layer}.self_attn.qkv_proj", dim, dim, start=(heads + kv_heads) * dim),
            output=f"{layer}.self_attn.o_proj",
            mlp_norm=Norm(f"{layer}.post_attention_layernorm", config.rms_norm_eps),
            mlp=f"{layer}.mlp",
            inner=(
                Rows(f"{layer}.mlp.gate_up_proj", 1, 1),
                Rows(f"{layer}.mlp.gate_up_proj", 1, 1, start=config.intermediate_size),
            ),
            down=f"{layer}.mlp.down_proj",
        )
        for layer in (f"model.layers.{index}" for index in range(config.num_hidden_layers))
    )
    return llama_frame(model, sites)
