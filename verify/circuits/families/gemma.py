"""Gemma 2 and 3: norms whose gain is 1 + weight before and after each branch; Gemma 3's q and k norms follow the rows.

The embedding scale is in the embedding module, soft caps and windows in the model's own forward pass: nothing to say.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, Norm
from verify.circuits.families.llama import describe_llama, llama_frame


def describe_gemma(model: nn.Module) -> Family:
    """Describe a Gemma 2 or the text model of a Gemma 3."""
    config: Any = model.config

    def norm(layer: int, name: str) -> Norm:
        return Norm(f"model.layers.{layer}.{name}", config.rms_norm_eps, shift=1.0)

    def gemma(layer: int, site: LayerSites) -> LayerSites:
        return replace(
            site,
            attention_norm=norm(layer, "input_layernorm"),
            attention_post=norm(layer, "post_attention_layernorm"),
            mlp_norm=norm(layer, "pre_feedforward_layernorm"),
            mlp_post=norm(layer, "post_feedforward_layernorm"),
        )

    llama = describe_llama(model)
    return llama_frame(model, tuple(gemma(*entry) for entry in enumerate(llama.sites)), shift=1.0)
