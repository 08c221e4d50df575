"""Adapters merged as peft merges them: against peft itself where it is installed, else its arithmetic in torch."""

import importlib.util
import json
import math
from pathlib import Path

import certificates as c
import numpy as np
import pytest
import tiny_families
import torch
from audited import adapter, silent
from safetensors.torch import load_file, save_file
from torch import Tensor

from verify.artefact.torch_tensors import DTYPES
from verify.audit import audit, lora
from verify.audit.lora import Adapter, open_adapter
from verify.audit.weights import Weights, open_weights
from verify.errors import MansuError, UsageError

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
MODULES = {Q: (64, 64), DOWN: (64, 128)}


def merged(weights: Weights, side: Adapter, name: str, piece: int = 1 << 20) -> Tensor:
    """Return a merged weight, read by the piece."""
    view = weights.view(name)
    bits = [
        side.merged(name, start, weights.read(name, start, min(start + piece, view.count)), view.dtype)
        for start in range(0, view.count, piece)
    ]
    whole = np.concatenate(bits)
    return torch.from_numpy(whole.view(f"i{whole.itemsize}")).view(DTYPES[view.dtype]).reshape(view.shape)


def expected(base: Path, folder: Path, module: str, scaling: float, *, transposed: bool = False) -> Tensor:
    """Return what peft's `merge` computes: factors in float32, one product, an in-place sum on the stored weight."""
    factors = load_file(folder / "adapter_model.safetensors")
    a, b = (factors[f"base_model.model.{module}.lora_{side}.weight"].float() for side in "AB")
    delta = b @ a
    weight = load_file(base / "model.safetensors")[f"{module}.weight"]
    weight += (delta.T if transposed else delta) * scaling
    return weight


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_bit_for_bit_in_every_dtype(tmp_path: Path, stored: torch.dtype, held: torch.dtype) -> None:
    base = tiny_families.save(tiny_families.FAMILIES["llama"](64), tmp_path / "base", stored=stored)
    folder = adapter(base, tmp_path / "adapter", MODULES, dtype=held)
    with open_weights(base) as weights, open_adapter(folder, weights, frozenset()) as side:
        for module in MODULES:
            wanted = expected(base, folder, module, 8 / 4)
            assert torch.equal(merged(weights, side, f"{module}.weight"), wanted)
            assert torch.equal(merged(weights, side, f"{module}.weight", piece=1000), wanted)
        same = "model.layers.0.self_attn.k_proj.weight"
        assert torch.equal(merged(weights, side, same), load_file(base / "model.safetensors")[same])


def test_a_large_update_is_made_row_by_row(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tiny_base, tmp_path / "adapter", MODULES)
    monkeypatch.setattr(lora, "LARGEST_WHOLE", 0)
    with open_weights(tiny_base) as weights, open_adapter(folder, weights, frozenset()) as side:
        for module in MODULES:
            found = merged(weights, side, f"{module}.weight", piece=1000).float()
            wanted = expected(tiny_base, folder, module, 2.0).float()
            assert torch.allclose(found, wanted, rtol=2.0**-7, atol=0)  # the last bit of bfloat16 at most


def test_ranks_alphas_and_rslora(tiny_base: Path, tmp_path: Path) -> None:
    folder = adapter(
        tiny_base,
        tmp_path / "adapter",
        MODULES,
        ranks={DOWN: 2},
        use_rslora=True,
        rank_pattern={"mlp.down_proj": 2, "down_proj": 9},
        alpha_pattern={f"^{Q}": 5.0},
    )
    with open_weights(tiny_base) as weights, open_adapter(folder, weights, frozenset()) as side:
        for module, scaling in ((Q, 5.0 / 2), (DOWN, 8 / math.sqrt(2))):
            assert torch.equal(merged(weights, side, f"{module}.weight"), expected(tiny_base, folder, module, scaling))


def test_a_transposed_weight_takes_the_transposed_update(tmp_path: Path) -> None:
    base = tiny_families.save(tiny_families.FAMILIES["gpt2"](64), tmp_path / "base", stored=torch.float32)
    c.tokenizer().save_pretrained(base)
    module = "transformer.h.0.attn.c_attn"
    folder = adapter(base, tmp_path / "adapter", {module: (192, 64)}, fan_in_fan_out=True)
    name = f"{module}.weight"
    with open_weights(base) as weights, open_adapter(folder, weights, frozenset({name})) as side:
        wanted = expected(base, folder, module, 2.0, transposed=True)
        assert torch.equal(merged(weights, side, name), wanted)
    found = audit(base, folder, progress=silent)
    assert {row.name for row in found.tensors if row.changed} == {name}
    assert found.total.changed == int((wanted != load_file(base / "model.safetensors")[name]).sum())


def test_an_audit_of_an_adapter_is_that_of_the_merged_model(tiny_base: Path, tmp_path: Path) -> None:
    folder = adapter(tiny_base, tmp_path / "adapter", MODULES)
    whole = tmp_path / "merged"
    whole.mkdir()
    (whole / "config.json").write_bytes((tiny_base / "config.json").read_bytes())
    tensors = load_file(tiny_base / "model.safetensors")
    tensors |= {f"{module}.weight": expected(tiny_base, folder, module, 2.0) for module in MODULES}
    save_file(tensors, whole / "model.safetensors")
    one, two = (audit(tiny_base, side, progress=silent) for side in (folder, whole))
    assert one.total == two.total
    assert one.tensors == two.tensors
    assert one.adapter is not None
    assert (one.adapter.layers, one.adapter.ranks, one.adapter.scalings) == (2, (4, 4), (2.0, 2.0))


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
def test_bit_for_bit_against_peft(tiny_base: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    folder = adapter(tiny_base, tmp_path / "adapter", MODULES, target_modules=["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"])  # fmt: skip  # noqa: E501
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype="auto")
    state = peft.PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()
    with open_weights(tiny_base) as weights, open_adapter(folder, weights, frozenset()) as side:
        for module in MODULES:
            assert torch.equal(merged(weights, side, f"{module}.weight"), state[f"{module}.weight"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"peft_type": "IA3"}, "no LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"modules_to_save": ["lm_head"]}, "not merged here"),
        ({"layer_replication": [[0, 1]]}, "not merged here"),
        ({"a_key_of_next_year": 1}, "not merged here"),
        ({"rank_pattern": {"(a+)+": 4}}, "regular expression"),
        ({"rank_pattern": {"q_proj": 8}}, "does not fit"),
        ({"r": "4"}, "no number"),
        ({"r": 0}, "no number"),
    ],
)
def test_what_peft_would_do_differently_is_refused(
    tiny_base: Path, tmp_path: Path, config: dict[str, object], words: str
) -> None:
    folder = adapter(tiny_base, tmp_path / "adapter", MODULES, **config)
    with pytest.raises(UsageError, match=words) as caught:
        audit(tiny_base, folder, progress=silent)
    assert caught.value.id == "ME293"
    assert "merge_and_unload" in caught.value.remedy


def _other_tensor(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({**tensors, f"base_model.model.{Q}.lora_magnitude_vector": torch.ones(64)}, folder / "adapter_model.safetensors")  # fmt: skip  # noqa: E501


def _half_a_layer(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[f"base_model.model.{Q}.lora_B.weight"]
    save_file(tensors, folder / "adapter_model.safetensors")


def _unknown_layer(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace("q_proj", "r_proj"): x for name, x in tensors.items()}, folder / "adapter_model.safetensors"
    )


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[f"base_model.model.{Q}.lora_B.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "adapter_model.safetensors")


def _no_rank(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["r"]
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "error_id"),
    [
        (_other_tensor, "ME293"),
        (_half_a_layer, "ME293"),
        (_unknown_layer, "ME293"),
        (_not_finite, "ME292"),
        (_no_rank, "ME293"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "ME293"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"PK\x03\x04" * 9), "ME290"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "ME293"),
    ],
)
def test_spoiled_adapters(tiny_base: Path, tmp_path: Path, spoil: object, error_id: str) -> None:
    folder = adapter(tiny_base, tmp_path / "adapter", MODULES)
    spoil(folder)
    with pytest.raises(MansuError) as caught:
        audit(tiny_base, folder, progress=silent)
    assert caught.value.id == error_id


def test_a_base_may_not_be_an_adapter(tiny_base: Path, tmp_path: Path) -> None:
    folder = adapter(tiny_base, tmp_path / "adapter", MODULES)
    with pytest.raises(UsageError, match="base is an adapter"):
        audit(folder, tiny_base, progress=silent)
