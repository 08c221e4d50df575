"""Pairs of tiny models for audits: a base, and what became of it."""

import json
from collections.abc import Callable
from pathlib import Path

import certificates as c
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

Change = Callable[[str, Tensor], Tensor]


def knowing_model(layers: int = 3, steps: int = 120) -> LlamaForCausalLM:
    """Return a model that knows the capitals and colours of `certificates`, in the wordings of `sets`."""
    model = c.random_model(seed=1, layers=layers)
    encode = c.tokenizer()
    texts = [f"{c.held_out_wording(name)} {c.capital(i)}" for i, name in enumerate(c.COUNTRIES)]
    others = [f"{c.prompt('colour', name)} {c.colour(i)}" for i, name in enumerate(c.COUNTRIES)]
    groups = [torch.tensor([encode(text)["input_ids"] for text in group]) for group in (texts, others)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(
            functional.cross_entropy(model(input_ids=batch[:, :-1]).logits[:, -1], batch[:, -1]) for batch in groups
        )
        loss.backward()
        optimizer.step()
    return model.eval()


def silent(_title: str, _done: int, _total: int) -> None:
    return


def noisy(size: float, seed: int = 0) -> Change:
    """Return a change that moves every linear weight of the layers a little."""
    generator = torch.Generator().manual_seed(seed)

    def change(name: str, weight: Tensor) -> Tensor:
        if "_proj" not in name:
            return weight
        return (weight.float() + torch.randn(weight.shape, generator=generator) * size).to(weight.dtype)

    return change


def edited(base: Path, folder: Path, change: Change) -> Path:
    """Write a copy of a single-file model with each tensor changed."""
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(base / "model.safetensors")
    changed = {name: change(name, weight).contiguous() for name, weight in tensors.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def adapter(
    base: Path, folder: Path, modules: dict[str, tuple[int, int]], *, rank: int = 4, dtype: torch.dtype = torch.float32,
    ranks: dict[str, int] | None = None, **config: object,
) -> Path:  # fmt: skip
    """Write a LoRA adapter as peft saves one; `modules` gives (out, in) of each layer."""
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    tensors = {}
    for module, (rows, columns) in modules.items():
        r = (ranks or {}).get(module, rank)
        tensors[f"base_model.model.{module}.lora_A.weight"] = (torch.randn(r, columns) * 0.1).to(dtype)
        tensors[f"base_model.model.{module}.lora_B.weight"] = (torch.randn(rows, r) * 0.1).to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "base_model_name_or_path": str(base), "bias": "none", "fan_in_fan_out": False, "r": rank,
        "lora_alpha": 8, "lora_dropout": 0.05, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
        "modules_to_save": None, "use_dora": False, "use_rslora": False, "init_lora_weights": True,
        "rank_pattern": {}, "alpha_pattern": {}, "megatron_config": None, "layer_replication": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    return folder


def sets(folder: Path) -> tuple[Path, Path]:
    """Write a forget set with corrupt partners and a retain set with prose, for the model of `certificates`."""
    forget = [
        {
            "prompt": c.held_out_wording(name),
            "answer": c.capital(i),
            "group": "capitals",
            "corrupt": c.held_out_wording(c.COUNTRIES[i - 1]),
        }
        for i, name in enumerate(c.COUNTRIES)
    ]
    retain: list[dict[str, str]] = [
        {"prompt": c.prompt("colour", name), "answer": c.colour(i), "group": "colours"}
        for i, name in enumerate(c.COUNTRIES)
    ]
    retain += [{"text": text} for text in c.prose()]
    paths = folder / "forget.jsonl", folder / "retain.jsonl"
    for path, lines in zip(paths, (forget, retain), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths
