"""T7 and T8: what does not enter a code: the compressed scales, and the rows that a weight is fused with."""

from fractions import Fraction
from itertools import pairwise

import torch
import z3
from torch import Tensor

from verify.nf4.dynamic import dynamic_map
from verify.nf4.proofs.logic import Codebook, Obligations, Outcome, number, scientific
from verify.nf4.proofs.moves import HAIR
from verify.nf4.quantize import quantize

REALISED = Fraction(694, 1000)
"""The share of its exact scale that a compressed scale must keep, as T7 states it."""

LOOKUP = Fraction(101, 100)
"""bitsandbytes' CPU kernel looks the nearest 8-bit point up in a table, and may take the second beside a midpoint."""


def double_quantization(book: Codebook) -> Outcome:
    """T7: non-interference, executed on both quantizers, and the bound on compressed scales for the realised row."""
    parts = Obligations()
    _no_interference(parts)
    for weight in _uneven_weights():
        plain, compressed = _bitsandbytes_codes(weight, compress=False), _bitsandbytes_codes(weight, compress=True)
        parts.require("bitsandbytes' codes differ", holds=torch.equal(plain, compressed))
        parts.require("the codes are not ours", holds=torch.equal(plain, quantize(weight).codes.reshape(-1)))
    ratio = z3.Real("s̃/s")
    moves = [(code, target) for code in range(16) for target in range(1, 15) if target != code]
    needed = max(book.widths[k] / (2 * abs(book.levels[j] - book.levels[k])) for k, j in moves)
    short = [number(abs(book.levels[j] - book.levels[k])) * ratio < number(book.widths[k] / 2) for k, j in moves]
    parts.impossible("a move is not realised", ratio >= number(needed), z3.Or(*short))
    parts.possible("a smaller scale fails", ratio >= number(needed - HAIR), z3.Or(*short))
    parts.require("the stated share suffices", holds=needed <= REALISED, found=scientific(needed))
    gap = _largest_gap() / 2 * LOOKUP
    return parts.outcome(
        "non-interference, executed on bitsandbytes; z3 over exact rationals for realised",
        ("smallest s̃/s for realised", scientific(needed)),
        ("error of s̃, in the largest |s − mean| of its 256", scientific(gap)),
        ("so realised holds for s at least", f"{scientific(gap / (1 - needed))} of that"),
    )


def _no_interference(parts: Obligations) -> None:
    """Two runs that agree on weights and exact scale, and store it through any two compressors."""
    w, s = z3.Reals("w s")
    encode, level = (
        z3.Function("code", z3.RealSort(), z3.RealSort(), z3.IntSort()),
        z3.Function("q", z3.IntSort(), z3.RealSort()),
    )
    stores = [z3.Function(f"store{run}", z3.RealSort(), z3.RealSort()) for run in (1, 2)]
    codes = [encode(w, s) for _ in stores]  # the statistics are compressed after the codes are packed
    values = [level(code) * store(s) for code, store in zip(codes, stores, strict=True)]
    parts.impossible("codes differ", codes[0] != codes[1])
    parts.possible("dequantized values may differ", values[0] != values[1])


def _bitsandbytes_codes(weight: Tensor, *, compress: bool) -> Tensor:
    from bitsandbytes.functional import quantize_4bit  # noqa: PLC0415  (takes a second to import)

    packed, _ = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=compress)
    return torch.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], 1).reshape(-1)


def _uneven_weights() -> list[Tensor]:
    """Weights whose scales differ by up to 2¹⁶, so that their compression errs much, in each format."""
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(7))
    rows = torch.pow(2.0, -torch.arange(64) / 4)[:, None]
    return [(weight * rows).to(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]


def _largest_gap() -> Fraction:
    """Return the largest distance between neighbours of the 8-bit map, from −1 on, exactly."""
    points = (Fraction(-1), *map(Fraction, dynamic_map().tolist()))
    # below the lowest point there is no other to round to: count that distance twice
    gaps = [b - a for a, b in pairwise(points)]
    return max(2 * gaps[0], *gaps[1:])


def fused_rows(book: Codebook) -> Outcome:
    """T8: for every shape, offset and block size. A flat index i splits as i = block · B + place, 0 ≤ place < B.

    With `in` = n·B and R rows before it, a part's index i becomes i + R·n·B. Then its place is the same and its block
    is R·n further: the blocks of the fused weight are those of its parts, one after the other.
    """
    del book  # nothing here depends on the levels
    parts = Obligations()
    size, rows, above, per_row, i = z3.Ints("B rows above n i")
    block, place, block_fused, place_fused = z3.Ints("block place block′ place′")
    own = (size >= 1, i == block * size + place, place >= 0, place < size)
    fused = (i + above * per_row * size == block_fused * size + place_fused, place_fused >= 0, place_fused < size)
    same = z3.And(block_fused == block + above * per_row, place_fused == place)
    inside = (i >= 0, i < rows * per_row * size)
    parts.impossible("a value changes its block or its place", *own, *fused, z3.Not(same))
    parts.impossible("a block reaches beyond its part", *own, *inside, z3.Or(block < 0, block >= rows * per_row))
    width = z3.Int("in")
    ragged = (i + above * width == block_fused * size + place_fused, place_fused >= 0, place_fused < size)
    parts.possible(
        "a row that B does not divide moves it", *own, *ragged, size == 64, width == 96, place_fused != place
    )
    parts.require("codes of fused weights", holds=_fused_codes_equal(128))
    parts.require("codes when B does not divide the row", holds=not _fused_codes_equal(96))
    return parts.outcome(
        "z3 over integers, replayed on verify.nf4.quantize",
        edge="rows of 96 in blocks of 64: the second block takes a value of the next weight, and codes change",
    )


def _fused_codes_equal(width: int) -> bool:
    """Whether weights of one row each, the second ten times the first, keep their codes when fused."""
    row = torch.linspace(-1, 1, width)[None]
    parts = (row, row.flip(1) * 10, row * 0.1)
    fused = quantize(torch.cat(parts)).codes
    return torch.equal(fused, torch.cat([quantize(part).codes for part in parts]))
