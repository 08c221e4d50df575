"""The NF4 codebook: 16 levels, the 15 thresholds between them, and the widths of the 16 cells.

The levels are those of bitsandbytes (Dettmers et al., QLoRA, arXiv 2305.14314, appendix E), as float32.
"""

import torch

BLOCK_SIZE = 64
"""Values per block in the default deployment profile."""

LEVELS = torch.tensor(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    dtype=torch.float32,
)
"""q₀ … q₁₅, float32 `[16]`. Code 7 is exactly zero."""

THRESHOLDS = (LEVELS[1:] + LEVELS[:-1]) / 2
"""t₁ … t₁₅, float32 `[15]`, the midpoints. A value on a threshold takes the lower code."""

WIDTHS = torch.diff(THRESHOLDS, prepend=LEVELS[:1], append=LEVELS[-1:])
"""|C_k|, float32 `[16]`: the width of each cell in units of the block's absmax; the end cells stop at ±1."""
