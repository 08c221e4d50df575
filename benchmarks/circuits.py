"""Time and memory of `verify.circuits.attribute` against a plain forward and backward pass, in one run.

    python benchmarks/circuits.py [--shape 1b gpt2] [--pairs 2] [--length 32] [--points 5] [--rounds 3]

Models with random weights and a small vocabulary. Every round times, in turn, *plain*: forward and the metric's
gradient with respect to the embeddings, parameters frozen, on as many rows as `attribute` has points and pairs, with as
many of them in a pass; *attribute* and *lean*: everything in them, over their points; and *check*, the part of both in
which the description of the family is held against the model, on three tokens and once a call. A ratio is the median of
the rounds' own, per integration point, with its spread. Two clocks: the wall, and the CPU time of the process, which
does not count the time given to other programs.

Memory is measured in processes of their own, by the peak of the resident set (Linux), with an allocator that gives
freed memory back at once: what `attribute` needs beyond *plain* with as many rows in a pass, by token of the pairs
(pairs · length).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.initialization import no_init_weights

from verify.circuits import Pair, attribute, describe
from verify.circuits.invariants import checked

VOCABULARY = 1000
SHAPES: dict[str, Callable[[], nn.Module]] = {
    "1b": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None)),
}


def pairs_of(count: int, length: int) -> list[Pair]:
    """Pairs that differ from the first token on, so that no prefix is shared and every position is computed."""
    ids = torch.randint(VOCABULARY // 2, (count, length), generator=torch.Generator().manual_seed(0))
    corrupt = ids.clone()
    corrupt[:, 0] += VOCABULARY // 2
    return [Pair(tuple(a.tolist()), tuple(b.tolist()), 1, (2, 3)) for a, b in zip(ids, corrupt, strict=True)]


def plain(model: Any, pairs: list[Pair], rows: int) -> None:
    """One forward and backward pass over `rows` copies of each clean prompt."""
    ids = torch.tensor([pair.clean for pair in pairs]).repeat_interleave(rows, 0)
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    last = torch.tensor([ids.shape[1] - 1])
    logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=last).logits[:, -1]
    torch.autograd.grad((logits[:, 1] - logits[:, 2:4].mean(1)).sum(), embeddings)


def passes_of(points: int, tokens: int) -> list[int]:
    """How many points go into each pass: as many as `attribute` takes together."""
    together = max(1, 1024 // tokens)
    return [min(together, points - first) for first in range(0, points, together)]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_above_now(run: Callable[[], object]) -> int:
    """Bytes by which the resident set rises at most while `run` runs."""
    status = Path("/proc/self/status")

    def read(field: str) -> int:
        return int(status.read_text().split(f"{field}:")[1].split()[0]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # forget the earlier peak
    before = read("VmRSS")
    run()
    return read("VmHWM") - before


def model_of(shape: str, *, shared: bool) -> nn.Module:
    """A model whose weights repeat one random block: drawing a billion of them would take longer than the benchmark.

    `shared`: every layer uses the tensors of the first one, which changes neither the arithmetic nor what is kept.
    """
    with no_init_weights():
        model = SHAPES[shape]().eval().requires_grad_(requires_grad=False)
    if shared:
        layers: Any = model.get_submodule(describe(model).layers)
        for layer in layers[1:]:
            for name, _ in list(layer.named_parameters()):
                module, _, key = name.rpartition(".")
                setattr(layer.get_submodule(module), key, layers[0].get_parameter(name))
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            flat = parameter.view(-1)
            for start in range(0, len(flat), len(block)):
                flat[start : start + len(block)] = block[: len(flat) - start]
    return model


def run_time(shape: str, options: argparse.Namespace) -> None:
    model, pairs, points = (
        model_of(shape, shared=options.shared),
        pairs_of(options.pairs, options.length),
        options.points,
    )
    graph = describe(model).graph
    tokens = options.pairs * options.length
    print(f"\n{shape}: {graph.n_writers} writers, {graph.n_readers} readers, {int(graph.real.sum())} edges")
    print(
        f"  {options.pairs} pairs of {options.length} tokens, {points} points; threads: {options.threads}", flush=True
    )
    passes = passes_of(points, tokens)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: [plain(model, pairs, rows) for rows in passes],
        "attribute": lambda: attribute(model, pairs, points=points, batch_size=len(pairs)),
        "lean": lambda: attribute(model, pairs, points=points, batch_size=len(pairs), lean=True),
        "check": lambda: checked(model),
    }
    plain(model, pairs[:1], 1)
    rounds: list[dict[str, tuple[float, float]]] = []
    for index in range(options.rounds):
        # the order turns, so that what else the machine does falls on every way alike
        turned = [*ways][index % len(ways) :] + [*ways][: index % len(ways)]
        rounds.append({name: timed(ways[name]) for name in turned})
        seconds = ", ".join(f"{name} {rounds[-1][name][1]:.2f}" for name in ways)
        print(f"  CPU seconds: {seconds}", flush=True)
    for clock, name in enumerate(("wall", "cpu")):
        for way in ("attribute", "lean"):
            ratios = [one[way][clock] / one["plain"][clock] for one in rounds]
            checks = statistics.median(one["check"][clock] / one["plain"][clock] for one in rounds)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            middle = statistics.median(ratios)
            print(f"  {name}, {way}: ratio {middle:.2f} ({spread}), of which the check {checks:.2f}", flush=True)


def run_memory(shape: str, options: argparse.Namespace) -> dict[str, float]:
    model, pairs, points = (
        model_of(shape, shared=options.shared),
        pairs_of(options.pairs, options.length),
        options.points,
    )
    plain(model, pairs[:1], 1)
    tokens = options.pairs * options.length
    rows = 1 if options.lean else passes_of(points, tokens)[0]
    found = {"plain": peak_above_now(lambda: plain(model, pairs, rows)) / tokens}
    run = lambda: attribute(model, pairs, points=points, batch_size=len(pairs), lean=options.lean)  # noqa: E731
    whole = peak_above_now(run) / tokens
    return found | {"attribute": whole, "extra": whole - found["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["time", "memory"])
    parser.add_argument("--shared", action="store_true", help="one layer's weights for all: 1b in 0.3 GB, not 4")
    parser.add_argument("--lean", action="store_true", help=argparse.SUPPRESS)  # which memory, in the child
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # measures memory, in the child
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.inside:
        print(json.dumps(run_memory(options.shape[0], options)))
        return
    for shape in options.shape:
        if options.only != "memory":
            run_time(shape, options)
        if options.only == "time":
            continue
        for way in ("attribute", "lean"):
            words = [sys.executable, __file__, "--inside", "--shape", shape]
            words += [f"--{name}={getattr(options, name)}" for name in ("pairs", "length", "points", "threads")]
            words += ["--lean"] * (way == "lean") + ["--shared"] * options.shared
            freeing = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
            done = subprocess.run(words, env=freeing, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            line = ", ".join(f"{name} {value / 1e6:.2f}" for name, value in found.items())
            print(f"  memory, {way}, MB by token: {line}", flush=True)


if __name__ == "__main__":
    main()
