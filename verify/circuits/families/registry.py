"""Which function describes which architecture. To add a family: docs/families.md."""

from collections.abc import Callable

from torch import nn

from verify.circuits.families.anatomy import Family
from verify.circuits.families.gemma import describe_gemma
from verify.circuits.families.gpt2 import describe_gpt2
from verify.circuits.families.gpt_neox import describe_gpt_neox
from verify.circuits.families.llama import describe_llama
from verify.circuits.families.mixtral import describe_mixtral
from verify.circuits.families.phi3 import describe_phi3
from verify.circuits.families.weights import require_matrix
from verify.errors import UsageError

FAMILIES: dict[str, Callable[[nn.Module], Family]] = {
    "LlamaForCausalLM": describe_llama,
    "MistralForCausalLM": describe_llama,
    "Qwen2ForCausalLM": describe_llama,
    "Qwen3ForCausalLM": describe_llama,
    "Gemma2ForCausalLM": describe_gemma,
    "Gemma3ForCausalLM": describe_gemma,
    "Phi3ForCausalLM": describe_phi3,
    "GPT2LMHeadModel": describe_gpt2,
    "GPTNeoXForCausalLM": describe_gpt_neox,
    "MixtralForCausalLM": describe_mixtral,
}


def describe(model: nn.Module) -> Family:
    """Return the anatomy of `model`, by name only: `verify.circuits.invariants` holds it against what the model does.

    Raises `UsageError` for an unknown architecture, or when a projection is not a plain floating-point linear layer
    (an adapter, or another packing than bitsandbytes': attribution needs the effective weight).
    """
    architecture = type(model).__name__
    builder = FAMILIES.get(architecture)
    if builder is None:
        raise UsageError(
            f"circuits are not defined for the architecture {architecture}",
            expected="one of " + ", ".join(FAMILIES),
            found=architecture,
            remedy="use a model of a supported family, or add its family: docs/families.md",
        )
    family = builder(model)
    for site in family.sites:
        for name in site.linears:
            require_matrix(model, name)
    return family
