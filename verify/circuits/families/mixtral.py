"""Mixtral: Llama's attention, and a mixture of experts as one MLP node; its router reads what the node reads."""

from dataclasses import replace
from typing import Any

from torch import nn

from verify.circuits.families.anatomy import Family, LayerSites, OwnedSlice
from verify.circuits.families.llama import describe_llama, llama_frame


def describe_mixtral(model: nn.Module) -> Family:
    """Describe a Mixtral. Experts are held as 3-D parameters [experts, outputs, inputs], gate and up in one."""
    config: Any = model.config

    def mixture(site: LayerSites) -> LayerSites:
        experts = f"{site.mlp}.experts"
        inner = int(config.intermediate_size)
        return replace(
            site,
            inner=(),
            down=None,
            experts=(
                OwnedSlice(experts, 1, range(2 * inner), "gate_up_proj"),
                OwnedSlice(experts, 2, range(inner), "down_proj"),
            ),
        )

    return llama_frame(model, tuple(mixture(site) for site in describe_llama(model).sites), d_ff=0)
