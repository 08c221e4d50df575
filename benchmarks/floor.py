"""How many updates of half a bin, and of a whole one, NF4 undoes: the numbers of docs/floor.md.

    python benchmarks/floor.py [--parameters 16777216]

Gaussian weights in blocks of 64. A share of them moves by a multiple of the width of its own bin, in a random
direction; then everything is quantized again, scales included. Nothing here spares absmax holders: that is the point.
"""

import argparse

import torch

from verify.nf4 import WIDTHS, quantize

BLOCK = 64


def measured(weight: torch.Tensor, share: float, bins: float, generator: torch.Generator) -> tuple[float, float]:
    """Return the share of the moved values that keep their code, and of the others that change theirs."""
    base = quantize(weight)
    moved = torch.rand(weight.shape, generator=generator) < share
    sign = torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1
    # a hair more than asked for, so that rounding to float32 does not leave it below
    step = WIDTHS[base.codes.long()] * base.scales() * bins * (1 + 2**-20) * sign
    codes = quantize(torch.where(moved, weight + step, weight)).codes
    kept = codes == base.codes
    others = (~kept[~moved]).float().mean() if share < 1 else torch.tensor(float("nan"))
    return float(kept[moved].float().mean()), float(others)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=int, default=1 << 24)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(arguments.parameters // 4096, 4096, generator=generator)
    print(f"{weight.numel():,} Gaussian weights, blocks of {BLOCK}")
    for bins in (0.5, 1.0):
        for share in (0.01, 1.0):
            kept, others = measured(weight, share, bins, generator)
            rest = f"; of the others {others:.2%} change it" if share < 1 else ""
            print(f"{share:.0%} moved by {bins} bins: {kept:.1%} keep their code{rest}")


if __name__ == "__main__":
    main()
