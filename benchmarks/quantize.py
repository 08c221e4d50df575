"""Time `verify.nf4.quantize` against bitsandbytes and against the memory, interleaved in one run.

    python benchmarks/quantize.py [--parameters 67108864] [--rounds 31] [--reference-rounds 5]

Every round times everything once, back to back, and the share of the read bandwidth (the faster of two ways to read)
is the median of the rounds' own ratios, so that a machine shared with others slows both sides of it. bitsandbytes takes
seconds and runs in the first rounds only; that ratio is one of medians. Two clocks: the wall over all threads, and one
thread's own CPU time, which does not count the time given to other programs.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import bitsandbytes.functional as bnb
import numba
import numpy as np
import torch
from numba import config

from verify.nf4 import quantize
from verify.nf4.kernels import empty_codes
from verify.nf4.lanes import HAS_BYTE_TABLES

LAYER = 1 << 22


def weights(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    some = (torch.randn(min(count, LAYER), generator=generator) * 0.03).bfloat16()
    return some.repeat(-(-count // len(some)))[:count].reshape(-1, 2048)


def threads_of(run: Callable[[int], object], parts: int, threads: int) -> None:
    if threads == 1:
        for part in range(parts):
            run(part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(parts)))


class Subjects:
    """What is timed; each is a function of no arguments over the same weights."""

    def __init__(self, weight: torch.Tensor, threads: int) -> None:
        self.weight = weight
        self.threads = threads
        self.words = weight.view(torch.int64).numpy().reshape(-1)
        self.parts = max(1, weight.numel() // LAYER)
        self.step = -(-self.words.size // self.parts)
        self.codes = torch.from_numpy(empty_codes(weight.numel())).reshape(weight.shape)
        self.layers = [layer.contiguous() for layer in weight.chunk(self.parts)]
        self.codes.fill_(0)

    def read_numpy(self) -> None:
        """Every byte once: the maximum of the weights as int64, threads over equal parts."""
        threads_of(lambda part: self.words[part * self.step :][: self.step].max(), self.parts, self.threads)

    def read_torch(self) -> None:
        """Every byte once: torch's own sum of the weights as int64."""
        self.weight.view(torch.int64).sum()

    def write(self) -> None:
        """Write one byte for each weight, into memory in use before."""
        size = -(-self.codes.numel() // self.parts)
        flat = self.codes.view(-1).numpy()
        threads_of(lambda part: flat[part * size :][:size].fill(0), self.parts, self.threads)

    def ours(self) -> None:
        """One tensor, codes into memory in use before."""
        quantize(self.weight, out=self.codes)

    def ours_fresh(self) -> None:
        """One tensor, codes into memory fresh from the operating system (its page faults included)."""
        quantize(self.weight)

    def ours_layers(self) -> None:
        """Layer by layer (4 M weights each), codes into new memory each time."""
        for layer in self.layers:
            quantize(layer)

    def reference(self) -> None:
        """bitsandbytes on the CPU, its own threads."""
        bnb.quantize_4bit(self.weight, blocksize=64, quant_type="nf4")


def clock(function: Callable[[], None], now: Callable[[], float]) -> float:
    start = now()
    function()
    return now() - start


def table(title: str, names: list[str], times: dict[str, list[float]], count: int, threads: int) -> None:
    read = min((times["read_numpy"], times["read_torch"]), key=statistics.median)
    print(f"\n{title} ({threads} thread{'s' if threads > 1 else ''})\n")
    print("| | ms, median (best) | G parameters/s | GB/s read | of the read bandwidth | times bitsandbytes |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        taken = times[name]
        middle = statistics.median(taken)
        reads = "" if name == "write" else f"{2 * count / middle / 1e9:.2f}"
        line = f"| {name} | {middle * 1e3:.2f} ({min(taken) * 1e3:.2f}) | {count / middle / 1e9:.3f} | {reads} "
        if name.startswith("ours"):
            share = statistics.median(a / b for a, b in zip(read, taken, strict=True))
            line += f"| {share:.2f} "
            line += f"| {statistics.median(times['reference']) / middle:.0f} |"
        else:
            line += "| | |"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=64 << 20)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--reference-rounds", type=int, default=5)
    arguments = parser.parse_args()
    weight = weights(arguments.parameters)
    count = weight.numel()
    print(
        f"{count:,} bfloat16 parameters; numba {numba.__version__}, torch {torch.__version__}, "
        f"byte tables: {HAS_BYTE_TABLES}, load {os.getloadavg()[0]:.1f}"
    )
    names = ["read_numpy", "read_torch", "write", "ours", "ours_fresh", "ours_layers"]
    for threads, now in ((len(os.sched_getaffinity(0)), time.perf_counter), (1, time.thread_time)):
        config.NUMBA_NUM_THREADS = threads
        torch.set_num_threads(threads)
        subjects = Subjects(weight, threads)
        packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
        ours = quantize(weight)
        codes = ours.codes.view(-1).numpy()
        assert np.array_equal(codes[::2] << 4 | codes[1::2], packed.view(-1).numpy())
        assert torch.equal(ours.absmax, state.absmax)
        times: dict[str, list[float]] = {name: [] for name in [*names, "reference"]}
        for round_ in range(arguments.rounds):
            if round_ < arguments.reference_rounds:
                times["reference"].append(clock(subjects.reference, now))
            for name in names:
                times[name].append(clock(getattr(subjects, name), now))
        kind = "wall clock" if threads > 1 else "CPU time of the thread"
        table(kind, [*names, "reference"], times, count, threads)


if __name__ == "__main__":
    main()
