"""Adapters that peft made and saved, merged by peft and by us: the same bits, or a refusal that says why."""

import warnings
from pathlib import Path
from typing import Any

import certificates as c
import numpy as np
import pytest
import tiny_families
import torch
from audited import silent
from torch import Tensor, nn

peft = pytest.importorskip("peft")

from transformers import AutoModelForCausalLM  # noqa: E402  (only where peft is)

from verify.artefact.torch_tensors import DTYPES  # noqa: E402
from verify.audit import audit  # noqa: E402
from verify.audit.lora import Adapter, open_adapter  # noqa: E402
from verify.audit.weights import Weights, open_weights  # noqa: E402
from verify.errors import UsageError  # noqa: E402

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base_of(folder: Path, family: str = "llama", stored: torch.dtype = torch.bfloat16) -> Path:
    base = tiny_families.save(tiny_families.FAMILIES[family](64), folder, stored=stored)
    c.tokenizer().save_pretrained(base)
    return base


def opened(base: Path) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    return model


def saved(base: Path, folder: Path, *, held: torch.dtype | None = None, **config: Any) -> Path:
    """Let peft make an adapter, as if it had been trained, and save it."""
    torch.manual_seed(5)
    wanted = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(opened(base), peft.LoraConfig(**wanted))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn(parameter.shape) * 0.1)
        model.to(held) if held is not None else None
        model.save_pretrained(folder)
    return folder


def peft_merged(base: Path, folder: Path) -> dict[str, Tensor]:
    merged = peft.PeftModel.from_pretrained(opened(base), folder).merge_and_unload()
    return dict(merged.state_dict())


def ours(weights: Weights, side: Adapter, name: str) -> Tensor:
    view = weights.view(name)
    bits = side.merged(name, 0, weights.read(name, 0, view.count), view.dtype)
    whole = np.ascontiguousarray(bits)
    return torch.from_numpy(whole.view(f"i{whole.itemsize}")).view(DTYPES[view.dtype]).reshape(view.shape)


@pytest.mark.parametrize(
    ("stored", "held", "config"),
    [
        (torch.float32, None, {}),
        (torch.float16, torch.float16, {"lora_alpha": 3, "r": 7}),
        (torch.bfloat16, torch.bfloat16, {"use_rslora": True}),
        (torch.bfloat16, None, {"rank_pattern": {"down_proj": 2, "^model.layers.0.self_attn.q_proj": 6}}),
        (torch.bfloat16, None, {"alpha_pattern": {"mlp.up_proj": 1, "v_proj": 5}, "use_rslora": True}),
        (torch.bfloat16, None, {"layers_to_transform": [1], "rank_pattern": {"q_proj": 3}}),
        (torch.bfloat16, None, {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}),
        (torch.bfloat16, None, {"init_lora_weights": "orthogonal"}),
    ],
)  # fmt: skip
def test_the_bits_are_pefts(tmp_path: Path, stored: torch.dtype, held: torch.dtype | None, config: Any) -> None:
    base = base_of(tmp_path / "base", stored=stored)
    folder = saved(base, tmp_path / "adapter", held=held, **config)
    wanted, before = peft_merged(base, folder), opened(base).state_dict()
    changed = set()
    with open_weights(base) as weights, open_adapter(folder, weights, frozenset()) as side:
        for name in weights.tensors:
            assert torch.equal(ours(weights, side, name), wanted[name]), name
            if not torch.equal(wanted[name], before[name]):
                changed.add(name)
        assert changed == side.layers.keys()
    assert changed


def test_the_bits_of_a_transposed_layer_are_pefts(tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", "gpt2", torch.float32)
    folder = saved(base, tmp_path / "adapter", target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    wanted = peft_merged(base, folder)
    found = audit(base, folder, progress=silent)
    changed = {row.name for row in found.tensors if row.changed}
    assert changed
    with open_weights(base) as weights, open_adapter(folder, weights, frozenset(changed)) as side:
        assert side.layers.keys() == changed
        for name in changed:
            assert torch.equal(ours(weights, side, name), wanted[name])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "not those of plain LoRA"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "changes the base"),
    ],
)
def test_what_peft_merges_otherwise_is_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    base = base_of(tmp_path / "base", stored=torch.float32)
    folder = saved(base, tmp_path / "adapter", **config)
    with pytest.raises(UsageError) as caught:
        audit(base, folder, progress=silent)
    assert caught.value.id == "ME293"
    assert words in f"{caught.value.message} {caught.value.expected}"
