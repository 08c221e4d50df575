"""Pairs on disk, read in pieces: the same answer whatever the pieces and shards, and errors that say what is wrong."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import certificates as c
import pytest
import tiny_families
import torch
from audited import Change, edited, noisy, silent
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, LlamaForCausalLM

from verify.audit import audit, compare
from verify.contract.audit import Audit
from verify.errors import MansuError, UsageError
from verify.nf4 import quantize


@pytest.fixture(scope="module")
def small_edit(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(tiny_base, tmp_path_factory.mktemp("small") / "edited", noisy(5e-4))


def numbers(found: Audit) -> dict[str, object]:
    return found.model_dump(include={"total", "tensors", "deployment", "notes", "headline"})


def test_a_small_update_is_mostly_undone(tiny_base: Path, small_edit: Path) -> None:
    found = audit(tiny_base, small_edit, progress=silent)
    base, after = (load_file(folder / "model.safetensors") for folder in (tiny_base, small_edit))
    layers = [name for name in base if "_proj" in name]
    changed = {name: base[name].float() != after[name].float() for name in layers}
    crossed = {name: quantize(base[name]).codes != quantize(after[name]).codes for name in layers}
    total = found.total
    assert total.changed == total.quantized_changed == sum(int(x.sum()) for x in changed.values())
    assert total.nf4.crossed == sum(int((changed[name] & crossed[name]).sum()) for name in layers)
    assert total.nf4.collateral == sum(int((~changed[name] & crossed[name]).sum()) for name in layers)
    assert total.nf4.undone == 1 - total.nf4.crossed / total.changed > 0.8
    assert found.headline.startswith("NF4 will undo ")
    assert total.norm == pytest.approx(
        float(sum((after[n].double() - base[n].double()).square().sum() for n in layers)) ** 0.5
    )
    assert [row.name for row in found.tensors if row.nf4 is not None] == sorted(layers, key=list(base).index)
    assert sum(row.changed for row in found.tensors) == total.changed
    assert (found.exit_code, found.behaviour, found.erasure) == (0, (), None)


def test_neither_pieces_nor_shards_matter(
    tiny_base: Path, small_edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(tiny_base, small_edit, progress=silent)
    shards = LlamaForCausalLM.from_pretrained(small_edit, dtype=torch.bfloat16)
    c.save_base(shards, tmp_path / "shards", shard_size="40KB")
    (tmp_path / "shards" / "consolidated.safetensors").write_bytes(b"none of ours")
    sharded = audit(tiny_base, tmp_path / "shards", progress=silent)
    assert sharded.total == whole.total
    monkeypatch.setattr(compare, "PIECE", 4096)
    pieces = audit(tiny_base, small_edit / "model.safetensors", progress=silent)
    assert pieces.total.nf4.model_dump(exclude={"energy", "realised"}) == whole.total.nf4.model_dump(
        exclude={"energy", "realised"}
    )
    assert pieces.total.nf4.energy == pytest.approx(whole.total.nf4.energy, rel=1e-12)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_dtypes_and_families(tmp_path: Path, family: str, stored: torch.dtype) -> None:
    base = tiny_families.save(tiny_families.FAMILIES[family](64), tmp_path / "base", stored=stored)
    c.tokenizer().save_pretrained(base)

    def change(name: str, weight: Tensor) -> Tensor:
        return weight * 1.125 if weight.ndim == 2 and ".1." in name else weight

    after = edited(base, tmp_path / "edited", change)
    found = audit(base, after, progress=silent)
    before, moved = (load_file(folder / "model.safetensors") for folder in (base, after))
    turned = family == "gpt2"
    for row in found.tensors:
        old, new = (side[row.name] for side in (before, moved))
        if turned and old.ndim == 2:
            old, new = old.T.contiguous(), new.T.contiguous()
        assert row.changed == int((old != new).sum())
        if row.nf4 is not None and row.changed:
            codes = [quantize(weight).codes for weight in (old, new)]
            assert row.nf4.crossed + row.nf4.collateral == int((codes[0] != codes[1]).sum())
    assert any(row.changed and row.nf4 is not None for row in found.tensors)


def test_the_dtype_that_the_configuration_names_is_what_is_quantized(tmp_path: Path) -> None:
    base = c.save_base(c.random_model(), tmp_path / "base")
    tensors = {name: weight.float() for name, weight in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    assert AutoConfig.from_pretrained(base).dtype == torch.bfloat16
    after = edited(base, tmp_path / "edited", lambda _name, weight: weight * (1 + 2.0**-20))
    found = audit(base, after, progress=silent)
    assert found.deployment.cast_base == "BF16"
    assert found.total.quantized_changed > 0
    # an update below the rounding of bfloat16 is gone before it is quantized
    assert found.total.nf4.identical == found.total.quantized_changed
    assert found.headline == "NF4 will undo 100.0 % of this update in quantized tensors."
    assert found.total.other_changed > 0


def test_a_skip_list_of_the_folder_counts(tiny_base: Path, small_edit: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    config = json.loads((base / "config.json").read_text())
    own = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["lm_head", "down_proj"],
    }
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
    found = audit(base, small_edit, progress=silent)
    assert found.deployment.skip_modules == ("lm_head", "down_proj")
    wanted = {row.name for row in found.tensors if "_proj" in row.name and "down_proj" not in row.name}
    assert {row.name for row in found.tensors if row.nf4 is not None} == wanted
    assert any("compressed scales" in note for note in found.notes)
    (base / "config.json").write_text(
        json.dumps(config | {"quantization_config": own | {"bnb_4bit_quant_type": "fp4"}})
    )
    with pytest.raises(UsageError) as caught:
        audit(base, small_edit, progress=silent)
    assert caught.value.id == "ME295"


def test_nothing_changed_and_nothing_quantized_changed(tiny_base: Path, tmp_path: Path) -> None:
    same = audit(tiny_base, tiny_base, progress=silent)
    assert same.headline == "The two models have the same weights: there is no update."
    assert same.total.nf4.undone is same.total.median_update is same.total.tensor_range is None
    norms = edited(tiny_base, tmp_path / "norms", lambda n, w: w + 1 if "norm" in n else w)
    found = audit(tiny_base, norms, progress=silent)
    assert found.headline == "NF4 will undo nothing of this update: it lies in tensors that stay unquantized."
    assert found.total.other_changed_tensors == 5
    assert found.total.median_update == pytest.approx(1, rel=found.total.median_error)


def test_an_update_that_scales_carry_is_not_called_undone_and_no_more(tiny_base: Path, tmp_path: Path) -> None:
    doubled = edited(tiny_base, tmp_path / "doubled", lambda n, w: w * 2 if "_proj" in n else w)
    found = audit(tiny_base, doubled, progress=silent)
    assert (found.total.nf4.crossed, found.total.nf4.undone) == (0, 1)
    assert found.total.nf4.realised == pytest.approx(1, abs=0.02)
    assert "but scales that moved carry" in found.headline


@pytest.mark.parametrize("rewritten", [0, 1], ids=["edited", "base"])
def test_a_head_that_one_side_ties_is_not_left_out(rewritten: int, tiny_base: Path, tmp_path: Path) -> None:
    pair = [tmp_path / "base", tmp_path / "edited"]
    for folder in pair:
        shutil.copytree(tiny_base, folder)
    folder = pair[1 - rewritten]
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = -tensors["model.embed_tokens.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(UsageError) as caught:
        audit(*pair, progress=silent)
    assert caught.value.id == "ME291"


def test_a_skip_list_of_regular_expressions_is_refused(tiny_base: Path, small_edit: Path, tmp_path: Path) -> None:
    """transformers takes its entries as such, and this one never ends."""
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    config = json.loads((base / "config.json").read_text())
    skip = ["(([a-z0-9_.])+)+!"]
    own = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": skip}
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
    with pytest.raises(UsageError, match="module names") as caught:
        audit(base, small_edit, progress=silent)
    assert caught.value.id == "ME295"


def test_a_skip_list_of_the_edited_model_alone_is_refused(tiny_base: Path, small_edit: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    shutil.copytree(small_edit, after)
    config = json.loads((after / "config.json").read_text())
    own = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["model"]}
    (after / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
    with pytest.raises(UsageError) as caught:
        audit(tiny_base, after, progress=silent)
    assert caught.value.id == "ME295"


def _drop(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "model.safetensors")


def _extra(folder: Path) -> None:
    save_file({**load_file(folder / "model.safetensors"), "x": torch.ones(2)}, folder / "model.safetensors")


def _rewrite(change: Change) -> object:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({n: change(n, w).contiguous() for n, w in tensors.items()}, folder / "model.safetensors")

    return spoil


def _not_finite(value: float) -> object:
    def change(name: str, weight: Tensor) -> Tensor:
        if "down_proj" in name:
            weight = weight.clone()
            weight[5, 3] = value
        return weight

    return _rewrite(change)


def _config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _adapter_beside(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def _link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "elsewhere")
    (folder / "model.safetensors").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("spoil", "error_id"),
    [
        (_drop, "ME291"),
        (_extra, "ME291"),
        (_rewrite(lambda _n, w: w.float()), "ME291"),
        (_rewrite(lambda n, w: w[:1] if "down_proj" in n else w), "ME291"),
        (_not_finite(torch.nan), "ME292"),
        (_not_finite(-torch.inf), "ME292"),
        (_config, "ME290"),
        (_adapter_beside, "ME290"),
        (_link, "ME290"),
        (shutil.rmtree, "ME290"),
    ],
    ids=["dropped", "extra", "dtype", "shape", "nan", "infinity", "config", "adapter", "link", "missing"],
)
def test_what_does_not_fit_is_refused_by_id(tiny_base: Path, tmp_path: Path, spoil: Change, error_id: str) -> None:
    after = tmp_path / "after"
    shutil.copytree(tiny_base, after)
    spoil(after)
    with pytest.raises(MansuError) as caught:
        audit(tiny_base, after, progress=silent)
    assert caught.value.id == error_id
    assert caught.value.remedy


def test_both_sides_are_examined_where_a_value_is_not_finite(tiny_base: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(tiny_base, bad)
    _not_finite(torch.inf)(bad)
    for pair, side in (((bad, bad), "base"), ((tiny_base, bad), "edited"), ((bad, tiny_base), "base")):
        with pytest.raises(UsageError, match=f"of the {side} model") as caught:
            audit(*pair, progress=silent)
        assert "flat index 643 of" in caught.value.found


def test_quantized_weights_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    packed = edited(tiny_base, tmp_path / "packed", lambda n, w: w.view(torch.uint8) if "_proj" in n else w)
    with pytest.raises(UsageError) as caught:
        audit(packed, packed, progress=silent)
    assert caught.value.id == "ME295"


HIDDEN, LAYERS = 2048, 3


def sparse_model(folder: Path, value: int) -> int:
    """Write a Llama-shaped bfloat16 model of holes, one value in every 2 MiB set; return its size in bytes."""
    folder.mkdir()
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "vocab_size": 32000,
        "intermediate_size": 4 * HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": HIDDEN // 16, "hidden_act": "silu", "tie_word_embeddings": True,
        "attention_bias": False, "mlp_bias": False, "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [32000, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in "qkvo":
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = [HIDDEN, HIDDEN]
        for name in ("gate", "up"):
            shapes[f"{prefix}mlp.{name}_proj.weight"] = [4 * HIDDEN, HIDDEN]
        shapes[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, 4 * HIDDEN]
        for name in ("input", "post_attention"):
            shapes[f"{prefix}{name}_layernorm.weight"] = [HIDDEN]
    header, position = {}, 0
    for name, shape in shapes.items():
        end = position + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)
        for place in range(0, position, 1 << 21):
            file.seek(8 + len(text) + place)
            file.write(struct.pack("<H", value))
    return position


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    size = [sparse_model(tmp_path / name, value) for name, value in (("base", 0x3F80), ("edited", 0x3F90))]
    assert size[0] == size[1] > 500 * 2**20
    command = [sys.executable, "-m", "verify.cli.auditing", str(tmp_path / "base"), str(tmp_path / "edited"), "-q"]
    run = subprocess.run([sys.executable, "-S", "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    code, peak = map(int, run.stdout.split())
    assert code == 0
    assert peak < 400 * 2**20 < size[0] + size[1]
