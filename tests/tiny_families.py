"""Tiny configurations of the families that deployment is tested on, at any width that four heads divide."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LongcatFlashConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

_COMMON = {"vocab_size": 96, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _sizes(width: int) -> dict[str, Any]:
    return _COMMON | {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }


def _grouped(width: int) -> dict[str, Any]:
    return _sizes(width) | {"num_key_value_heads": 2}


def _headed(width: int) -> dict[str, Any]:
    return _grouped(width) | {"head_dim": width // 4}


FAMILIES: dict[str, Callable[[int], Any]] = {
    "llama": lambda width: LlamaConfig(**_grouped(width)),
    "llama-tied": lambda width: LlamaConfig(**_grouped(width), tie_word_embeddings=True),
    "mistral": lambda width: MistralConfig(**_grouped(width)),
    "qwen2": lambda width: Qwen2Config(**_grouped(width)),
    "qwen3": lambda width: Qwen3Config(**_headed(width)),
    "gemma2": lambda width: Gemma2Config(**_headed(width)),
    "gemma3": lambda width: Gemma3TextConfig(**_headed(width)),
    "phi3": lambda width: Phi3Config(**_grouped(width)),
    "gpt2": lambda width: GPT2Config(vocab_size=96, n_embd=width, n_layer=2, n_head=4, n_positions=32),
    "gpt-neox": lambda width: GPTNeoXConfig(**_sizes(width)),
    "mixtral": lambda width: MixtralConfig(**_grouped(width), num_local_experts=4),
    "qwen2-moe": lambda width: Qwen2MoeConfig(
        **_grouped(width),
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=width,
        shared_expert_intermediate_size=width,
    ),
    "olmoe": lambda width: OlmoeConfig(**_grouped(width), num_experts=4, num_experts_per_tok=2),
    "falcon": lambda width: FalconConfig(vocab_size=96, hidden_size=width, num_hidden_layers=2, num_attention_heads=4),
    "longcat": lambda width: LongcatFlashConfig(
        **{key: value for key, value in _grouped(width).items() if key != "num_hidden_layers"},
        num_layers=1,
        ffn_hidden_size=width,
        q_lora_rank=32,
        kv_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        v_head_dim=16,
        n_routed_experts=4,
        zero_expert_num=2,
        moe_topk=2,
        expert_ffn_hidden_size=width,
    ),
}


def save(config: Any, folder: Path, *, stored: torch.dtype, shard: str = "1GB") -> Path:
    """Write a random model of a configuration in the stored dtype, in shards of at most the given size."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config, dtype=stored)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder
