"""Peak memory and speed of `mansu-audit` on large pairs, written once and deleted afterwards.

    python benchmarks/audit.py --gib 2

Makes a Llama-shaped bfloat16 pair of that size each under --work: *dense* with every linear weight moved by less than a
bin (all codes are computed twice), or *sparse* with one value in every 2 MiB moved in a file of holes (what is left is
reading). The audit runs in a process of its own, cold for numba's cache in the first round only.
"""

import argparse
import json
import shutil
import statistics
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

HIDDEN, INNER, VOCABULARY = 4096, 14336, 32000
PER_LAYER = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN
STEP = 1 << 22


def shapes(gib: float) -> dict[str, list[int]]:
    layers = max(1, round((gib * 2**29 - VOCABULARY * HIDDEN) / PER_LAYER))
    found = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}self_attn.{name}_proj.weight": [HIDDEN, HIDDEN] for name in "qkvo"}
        found |= {f"{prefix}mlp.{name}_proj.weight": [INNER, HIDDEN] for name in ("gate", "up")}
        found[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, INNER]
        found |= {f"{prefix}{name}_layernorm.weight": [HIDDEN] for name in ("input", "post_attention")}
    return found


def config(layers: int) -> dict[str, object]:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "vocab_size": VOCABULARY,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 32,
        "head_dim": 128, "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False,
        "mlp_bias": False, "dtype": "bfloat16",
    }  # fmt: skip


def write(folder: Path, gib: float, *, dense: bool, edited: bool) -> int:
    """Write one side; return its bytes. Of a dense side, the same random piece over and over, moved or not."""
    folder.mkdir(parents=True)
    header, position, wanted = {}, 0, shapes(gib)
    for name, shape in wanted.items():
        end = position + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, end]}
        position = end
    layers = sum(name.endswith("q_proj.weight") for name in wanted)
    (folder / "config.json").write_text(json.dumps(config(layers)))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    piece = (generator.standard_normal(STEP // 2, np.float32) * 0.02).view(np.uint32)
    if edited:
        piece = (piece.view(np.float32) * np.float32(1.01)).view(np.uint32)
    bits = (piece >> 16).astype("<u2").tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        file.truncate(start + position)
        for place in range(0, position, STEP if dense else 1 << 21):
            file.seek(start + place)
            left = position - place
            file.write(bits[:left] if dense else bits[: min(2, left)])
    return position


MEASURE = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def timed(base: Path, edited: Path) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and peak MiB of an audit."""
    command = [sys.executable, "-m", "verify.cli.auditing", str(base), str(edited), "--format", "json", "-q"]
    launcher = [sys.executable, "-S", "-c", MEASURE, *command]
    code, *found = subprocess.run(launcher, check=True, capture_output=True, text=True).stdout.split()
    if code != "0":
        raise SystemExit(f"mansu-audit ended with {code}")
    wall, cpu, mib = map(float, found)
    return wall, cpu, mib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2, help="size of each side")
    parser.add_argument("--kind", choices=("dense", "sparse"), default="dense")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("/tmp/mansu-audit"))
    given = parser.parse_args()
    sides = given.work / "base", given.work / "edited"
    try:
        dense = given.kind == "dense"
        size = sum(write(side, given.gib, dense=dense, edited=side is sides[1]) for side in sides)
        runs = [timed(*sides) for _ in range(given.rounds)]
    finally:
        shutil.rmtree(given.work, ignore_errors=True)
    wall, cpu = (statistics.median(column) for column in list(zip(*runs, strict=True))[:2])
    print(f"{given.kind}, 2 x {size / 2**31:.2f} GiB: peak {max(mib for *_, mib in runs):.0f} MiB")
    print(f"  {wall:.1f} s wall, {size / wall / 1e9:.2f} GB/s; {cpu:.1f} s processor, {size / cpu / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()
