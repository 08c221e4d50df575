"""Parity with TransformerLens, whose `attribution_patch` nobody here wrote: the same edges, the same scores to 1e-5.

It runs in an environment of its own (`make lens`), as a separate process on saved models. It takes the gradient at the
corrupt prompt and measures towards the clean one, so its scores are those of the rule `corrupt` with the sign turned.
It knows no grouped-query attention: a grouped model is compared with the multi-head model of repeated keys and values.
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from test_circuits_families import VOCABULARY, tiny_pairs
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from verify.circuits import attribute

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-lens" / "bin" / "python"
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama-tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama-grouped": lambda: LlamaForCausalLM(LlamaConfig(**SIZES | {"num_key_value_heads": 2})),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64)),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
}
PORTS = {"q_input": "q", "k_input": "k", "v_input": "v"}

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="TransformerLens is not installed; `make lens` does it")


def random_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif parameter.dim() == 1:
                parameter.uniform_(0.6, 1.4)
            else:
                parameter.normal_(0, 0.25)
    return model.eval()


def multi_head(grouped: nn.Module) -> nn.Module:
    """The same function without groups: every head has its own copy of the key and value it is served by."""
    state = {
        key: value.view(2, -1, 32).repeat_interleave(2, 0).flatten(0, 1)
        if "k_proj" in key or "v_proj" in key
        else value
        for key, value in grouped.state_dict().items()
    }
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, float]]]:
    """Scores of every model by TransformerLens, pair by pair: one process for all, its start takes seconds."""
    folder = tmp_path_factory.mktemp("lens")
    pairs = json.dumps([asdict(pair) for pair in tiny_pairs(3)])
    for name in MODELS:
        model = random_model(name)
        (multi_head(model) if name == "llama-grouped" else model).save_pretrained(folder / name)
        (folder / name / "pairs.json").write_text(pairs)
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "lens" / "attribute.py", *(folder / name for name in MODELS)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = {name: json.loads((folder / name / "scores.json").read_text()) for name in MODELS}
    assert {answer["version"] for answer in answers.values()} == {"4.3.0"}
    return {name: answer["scores"] for name, answer in answers.items()}


def as_matrix(found: dict[str, float], writers: tuple[str, ...], readers: tuple[str, ...], group: int) -> torch.Tensor:
    """Scores of TransformerLens in our rows and columns; heads of one group share their key and value."""
    scores = torch.zeros(len(writers), len(readers), dtype=torch.float64)
    for edge, score in found.items():
        names = []
        for node in edge.split():
            kind, layer, head = node.split("/")
            if kind in PORTS:
                shared = kind != "q_input"
                names.append(f"a{layer}.{'k' if shared else 'h'}{int(head) // (group if shared else 1)}<{PORTS[kind]}>")
            else:
                known = {"embed": "input", "logits": "logits", "attn_head_out": f"a{layer}.h{head}"}
                names.append(known.get(kind, f"m{layer}"))
        scores[writers.index(names[0]), readers.index(names[1])] += score
    return scores.float()


@pytest.mark.parametrize("name", MODELS)
def test_scores_agree_with_transformer_lens(name: str, lens: dict[str, list[dict[str, float]]]) -> None:
    scores = attribute(random_model(name), tiny_pairs(3), rule="corrupt", per_example=True)
    group = 2 if name == "llama-grouped" else 1
    assert scores.graph.group == group
    assert scores.per_example is not None
    for ours, theirs in zip(scores.per_example, lens[name], strict=True):
        wanted = as_matrix(theirs, scores.writers, scores.readers, group)
        largest = float(wanted.abs().max())
        assert largest > 0.1
        torch.testing.assert_close(-ours, wanted, rtol=0, atol=1e-5 * largest)
