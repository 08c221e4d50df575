"""`mansu-verify --checks static` against `model_signing verify`, on the same folder, in one run.

    python benchmarks/static.py --gib 2 --work /tmp/static

makes (once) a Llama-shaped bfloat16 model of that size with random weights, 0.5 % of its linear weights edited so that
they survive every default profile, and its certificate; then times both commands in turn, warm, and prints the ratio of
their medians and the peak memory of each. `model_signing` (package model-signing 1.1.1 with pyOpenSSL) is run as found
on PATH, or given by --model-signing.
"""

import argparse
import hashlib
import json
import statistics
import struct
import subprocess
import sys
from pathlib import Path

import torch

from mansu.floor.lattice import absmax_holders, lattice
from verify.artefact import LedgerEntry, load_private, seal, walk, write_key_pair
from verify.artefact.ledger import write as write_ledger
from verify.checks.architecture import Architecture, architecture
from verify.checks.permanence import geometry_of
from verify.contract import manifest as m
from verify.contract.schema import FileDigest
from verify.nf4.rows import Geometry

HIDDEN, INNER, VOCABULARY = 2048, 8192, 32000
PER_LAYER = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN
SHARE = 0.005
ROUNDS = 5


def config(gib: float) -> dict[str, object]:
    layers = max(1, round((gib * 2**29 - VOCABULARY * HIDDEN) / PER_LAYER))
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "bfloat16",
    }


def make(folder: Path, gib: float) -> None:
    """Write base digests, model, ledger and manifest; only one tensor is ever in memory."""
    model = folder / "out" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(config(gib)))
    structure = architecture({"config.json": (model / "config.json").read_bytes()}, [None], tensors=10**6)
    shapes = {name: shape for name, shape in structure.shapes.items() if name != "lm_head.weight"}
    entries = write_weights(model / "model.safetensors", folder / "base.safetensors", shapes, structure)
    (folder / "out" / "ledger.safetensors").write_bytes(write_ledger(entries))
    keys = write_key_pair(folder / "keys")
    sign(folder, entries, shapes, keys[0])


def write_weights(
    path: Path, base_path: Path, shapes: dict[str, tuple[int, ...]], structure: Architecture
) -> dict[str, LedgerEntry]:
    geometries = tuple(dict.fromkeys(geometry_of(profile) for profile in m.DEFAULT_PROFILES))
    quantized = {entry.name for entry in structure.quantized[None]}
    header, position = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    entries, made = {}, {}
    with path.open("wb") as edited_file, base_path.open("wb") as base_file:
        for file in (edited_file, base_file):
            file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            kind = (shape, name in quantized)
            if kind not in made:
                made[kind] = edited_weight(shape, geometries, masked=name in quantized)
            base, edited, entry = made[kind]
            base_file.write(base)
            edited_file.write(edited)
            if entry is not None:
                entries[name] = entry
    return entries


def edited_weight(
    shape: tuple[int, ...], geometries: tuple[Geometry, ...], *, masked: bool
) -> tuple[bytes, bytes, LedgerEntry | None]:
    """Return a random weight's bytes before and after the edit; layers of one shape share theirs, to save time."""
    generator = torch.Generator().manual_seed(sum(shape))
    weight = (torch.randn(shape, generator=generator) * 0.02).bfloat16()
    base = weight.view(torch.int16).numpy().tobytes()
    if not masked:
        return base, base, None
    indices = torch.randperm(weight.numel(), generator=generator)[: int(SHARE * weight.numel())]
    indices = indices[~absmax_holders(weight).reshape(-1)[indices]].sort().values
    grid = lattice(weight, indices, geometries=geometries, margin=2.0**-7)
    distance = (grid.values - grid.base[:, None]).abs().masked_fill(~grid.valid, torch.inf)
    movable = grid.valid.any(1)
    values = grid.values.gather(1, distance.argmin(1)[:, None])[movable, 0].bfloat16()
    entry = LedgerEntry(indices[movable], weight.reshape(-1)[indices[movable]].clone())
    weight.view(-1)[entry.indices] = values
    return base, weight.view(torch.int16).numpy().tobytes(), entry


def sign(folder: Path, entries: dict[str, LedgerEntry], shapes: dict[str, tuple[int, ...]], key: Path) -> None:
    out = folder / "out"

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    zero = "0" * 64
    masked = {name: entry.indices.numel() for name, entry in entries.items()}
    total = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    base = {
        "config.json": digest(out / "model" / "config.json"),
        "model.safetensors": digest(folder / "base.safetensors"),
    }
    statement = m.Statement(
        _type=m.STATEMENT_TYPE,
        predicateType=m.PREDICATE_TYPE,
        subject=tuple(m.Subject(name=n, digest=m.Digest(sha256=digest(out / n))) for n in walk(out)),
        predicate=m.Predicate(
            engine=m.Engine(name="benchmark", version="1"),
            created="2026-01-01T00:00:00Z",
            request=m.Request(forget_sha256=zero, retain_sha256=zero, forget_lines=1, retain_lines=1),
            base=m.Base(files=tuple(FileDigest(name=n, sha256=d) for n, d in sorted(base.items()))),
            method=m.Method(name="nearest value that survives", settings={}),
            mask=m.Mask(
                tensors=tuple(m.TensorMask(tensor=n, masked=k, total=total[n]) for n, k in sorted(masked.items())),
                masked=sum(masked.values()),
                parameters=sum(total.values()),
                ledger_sha256=digest(out / "ledger.safetensors"),
            ),
            profiles=m.DEFAULT_PROFILES,
            circuit=m.CircuitClaim(edges=1, edges_total=1, faithfulness=1.0, target=1.0, reached=True),
            claims=(),
        ),
    )
    (out / "m.json").write_bytes(seal(statement, load_private(key)))


MEASURE = """
import os, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(code, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak MiB of a command, started by a small process: a fork counts as its child's size."""
    launcher = [sys.executable, "-S", "-c", MEASURE, *command]
    code, seconds, mib = subprocess.run(launcher, check=True, capture_output=True, text=True).stdout.split()
    if code != "0":
        raise SystemExit(f"{command[0]} ended with {code}")
    return float(seconds), float(mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--work", type=Path, default=Path("/tmp/mansu-static"))
    parser.add_argument("--model-signing", default="model_signing")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    folder = given.work / f"{given.gib:g}GiB"
    if not (folder / "out" / "m.json").exists():
        make(folder, given.gib)
    model, keys, signature = folder / "out" / "model", folder / "keys", folder / "model.sig"
    verify = [sys.executable, "-m", "verify.cli", str(model), "--manifest", str(folder / "out" / "m.json")]
    verify += ["--key", str(keys / "public.pem"), "--checks", "static"]
    signing = [given.model_signing, "verify", "key", str(model), "--public_key", str(keys / "public.pem")]
    signing += ["--signature", str(signature)]
    if not signature.exists():
        sign_command = [given.model_signing, "sign", "key", str(model), "--private_key", str(keys / "private.pem")]
        subprocess.run([*sign_command, "--signature", str(signature)], check=True, stdout=subprocess.DEVNULL)
    for command in (verify, signing):
        timed(command)
    ours, theirs = zip(*((timed(verify), timed(signing)) for _ in range(given.rounds)), strict=True)
    median = [statistics.median(seconds for seconds, _ in runs) for runs in (ours, theirs)]
    print(f"{given.gib:g} GiB  mansu-verify {median[0]:.2f} s, {max(mib for _, mib in ours):.0f} MiB")
    print(f"       model_signing {median[1]:.2f} s, {max(mib for _, mib in theirs):.0f} MiB")
    ratios = sorted(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True))
    print(f"       ratio of medians {median[0] / median[1]:.2f}; of pairs {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
