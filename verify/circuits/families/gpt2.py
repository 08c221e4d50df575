"""GPT-2: LayerNorms, biases, learned positions, Conv1D layers (weights stored [in, out]), q, k and v in one of them."""

from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, Norm, Rows
from verify.circuits.graph import Graph


def describe_gpt2(model: nn.Module) -> Family:
    """Describe a GPT-2. The positions are added to every run alike, so they need no writer of their own."""
    config: Any = model.config
    width, heads = int(config.n_embd), int(config.n_head)
    dim, eps = width // heads, config.layer_norm_epsilon
    sites = tuple(
        LayerSites(
            attention_norm=Norm(f"{layer}.ln_1", eps, centred=True),
            query=Rows(f"{layer}.attn.c_attn", dim, dim),
            key=Rows(f"{layer}.attn.c_attn", dim, dim, start=width),
            value=Rows(f"{layer}.attn.c_attn", dim, dim, start=2 * width),
            output=f"{layer}.attn.c_proj",
            mlp_norm=Norm(f"{layer}.ln_2", eps, centred=True),
            mlp=f"{layer}.mlp",
            inner=(Rows(f"{layer}.mlp.c_fc", 1, 1),),
            down=f"{layer}.mlp.c_proj",
        )
        for layer in (f"transformer.h.{index}" for index in range(config.n_layer))
    )
    return Family(
        architecture=type(model).__name__,
        graph=Graph(layers=len(sites), heads=heads, kv_heads=heads),
        vocabulary=int(config.vocab_size),
        width=width,
        head_dim=dim,
        d_ff=int(config.n_inner or 4 * width),
        embedding="transformer.wte",
        layers="transformer.h",
        final_norm=Norm("transformer.ln_f", eps, centred=True),
        unembedding="lm_head",
        sites=sites,
        turned=True,
    )
