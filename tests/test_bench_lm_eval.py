"""Agreement with lm-evaluation-harness, which nobody here wrote: the same letters, the same log-probabilities.

It runs in an environment of its own (`make lm-eval`) on the exported folder of a model; without it, this is skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mansu.bench.letters import accuracy, letter_scores
from mansu.bench.loaders import load_mmlu, load_wmdp

ROOT = Path(__file__).parent.parent
PYTHON = Path(os.environ.get("MANSU_LM_EVAL", ROOT / ".venv-lm-eval" / "bin" / "python"))
THINGS = ["leaf", "root", "seed", "bark", "two wings", "six legs", "a shell", "no bones", "salt water", "clay"]
ROWS = [
    {
        "question": f"Which of these belongs to thing number {number}?" + " " * (number % 3),
        "choices": [THINGS[(number * k + k) % len(THINGS)] for k in (1, 3, 7, 9)],
        "answer": number % 4,
    }
    for number in range(12)
]

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="lm-evaluation-harness is not installed; `make lm-eval` does it"
)


def save_model(folder: Path) -> Path:
    texts = [f"{row['question']} {' '.join(row['choices'])}\nA. B. C. D. Answer:" for row in ROWS]
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=400,
            special_tokens=["<end>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    encode = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>", bos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(encode),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    encode.save_pretrained(folder)
    return folder


def test_letters_agree_with_the_harness(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    subjects = {"mmlu_anatomy": "anatomy", "mmlu_high_school_us_history": "high_school_us_history"}
    for name in ("wmdp_bio", "wmdp_cyber", *subjects):
        rows = [row | ({"subject": subjects[name]} if name in subjects else {}) for row in ROWS]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "lm_eval" / "harness.py", model, data, tmp_path / "found.json"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads((tmp_path / "found.json").read_text())
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    encode = AutoTokenizer.from_pretrained(model)
    for name, found in theirs.items():
        # our loader looks for the benchmark's own names
        local = tmp_path / name
        local.mkdir()
        kind, _, part = name.partition("_")
        stem = f"wmdp-{part}" if kind == "wmdp" else part
        (local / f"{stem}.jsonl").write_bytes((data / f"{name}.jsonl").read_bytes())
        questions = load_wmdp(part, local) if kind == "wmdp" else load_mmlu(part, local)
        ours = letter_scores(net, encode, questions)
        for score, row in zip(ours, found["rows"], strict=True):
            assert score.log_probabilities == pytest.approx(row, abs=1e-4)
        assert accuracy(ours) == pytest.approx(found["acc"])
    assert len(theirs) == 4
