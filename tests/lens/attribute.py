"""Edge scores by TransformerLens, run with its own Python: `attribute.py FOLDER...`.

Each folder is a model with a `pairs.json`; writes `scores.json` beside it. Shares no code with mansu: the scores are
the tool's own, position by position, and only summed over positions here.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def main(*folders: str) -> None:
    torch.set_num_threads(1)
    for folder in map(Path, folders):
        scores = [edge_scores(bridge_of(folder), pair) for pair in json.loads((folder / "pairs.json").read_bytes())]
        answer = {"version": version("transformer-lens"), "scores": scores}
        (folder / "scores.json").write_text(json.dumps(answer), encoding="utf-8")


def bridge_of(folder: Path) -> TransformerBridge:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    words = {str(token): token for token in range(model.config.vocab_size)}
    # the bridge asks the folder for one; nothing here is ever tokenized
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")), bos_token="1", eos_token="2", pad_token="2"
    ).save_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), hf_model=model, device="cpu").eval()


def edge_scores(bridge: TransformerBridge, pair: dict[str, Any]) -> dict[str, float]:
    """Return {"writer reader": score}, each node as kind/layer/head."""

    def metric(logits: torch.Tensor) -> torch.Tensor:
        last = logits[0, -1]
        return last[pair["answer"]] - last[pair["alternatives"]].mean()

    clean, corrupt = torch.tensor([pair["clean"]]), torch.tensor([pair["corrupt"]])
    found = attribution_patch(bridge, clean, corrupt, metric, EdgeAttributionConfig(granularity="edge"))
    sums: dict[str, float] = {}
    for (writer, reader), score in found.edge_scores.items():
        key = " ".join(f"{node.kind}/{node.layer}/{node.head}" for node in (writer, reader))
        sums[key] = sums.get(key, 0.0) + score
    return sums


if __name__ == "__main__":
    main(*sys.argv[1:])
