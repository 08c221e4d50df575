"""GPT-NeoX: LayerNorms, biases, q, k and v of each head together in one projection, parallel residual."""

from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, Norm, Rows
from verify.circuits.graph import Graph


def describe_gpt_neox(model: nn.Module) -> Family:
    """Describe a GPT-NeoX (Pythia too). With `use_parallel_residual` the MLP does not read its layer's attention."""
    config: Any = model.config
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    dim, eps = width // heads, config.layer_norm_eps
    sites = tuple(
        LayerSites(
            attention_norm=Norm(f"{layer}.input_layernorm", eps, centred=True),
            query=Rows(f"{layer}.attention.query_key_value", dim, 3 * dim),
            key=Rows(f"{layer}.attention.query_key_value", dim, 3 * dim, start=dim),
            value=Rows(f"{layer}.attention.query_key_value", dim, 3 * dim, start=2 * dim),
            output=f"{layer}.attention.dense",
            mlp_norm=Norm(f"{layer}.post_attention_layernorm", eps, centred=True),
            mlp=f"{layer}.mlp",
            inner=(Rows(f"{layer}.mlp.dense_h_to_4h", 1, 1),),
            down=f"{layer}.mlp.dense_4h_to_h",
        )
        for layer in (f"gpt_neox.layers.{index}" for index in range(config.num_hidden_layers))
    )
    return Family(
        architecture=type(model).__name__,
        graph=Graph(layers=len(sites), heads=heads, kv_heads=heads, parallel=bool(config.use_parallel_residual)),
        vocabulary=int(config.vocab_size),
        width=width,
        head_dim=dim,
        d_ff=int(config.intermediate_size),
        embedding="gpt_neox.embed_in",
        layers="gpt_neox.layers",
        final_norm=Norm("gpt_neox.final_layer_norm", eps, centred=True),
        unembedding="lm_head",
        sites=sites,
    )
