"""The NF4 codebook: 16 levels, the 15 thresholds between them, and the widths of the 16 cells.

The levels are those of bitsandbytes (Dettmers et al., QLoRA, arXiv 2305.14314, appendix E), as float32. The constants
are NumPy arrays, so that what needs no torch does not load it; `LEVELS`, `THRESHOLDS` and `WIDTHS` are the same values
as torch tensors, made on first use.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    LEVELS: Tensor
    THRESHOLDS: Tensor
    WIDTHS: Tensor

BLOCK_SIZE = 64
"""Values per block in the default deployment profile."""

LEVELS_F32 = np.array(
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
    dtype=np.float32,
)
"""q₀ … q₁₅, float32 `[16]`. Code 7 is exactly zero."""

THRESHOLDS_F32 = (LEVELS_F32[1:] + LEVELS_F32[:-1]) / np.float32(2)
"""t₁ … t₁₅, float32 `[15]`, the midpoints. A value on a threshold takes the lower code."""

WIDTHS_F32 = np.diff(THRESHOLDS_F32, prepend=LEVELS_F32[:1], append=LEVELS_F32[-1:])
"""|C_k|, float32 `[16]`: the width of each cell in units of the block's absmax; the end cells stop at ±1."""

_ARRAYS = {"LEVELS": LEVELS_F32, "THRESHOLDS": THRESHOLDS_F32, "WIDTHS": WIDTHS_F32}
for _array in _ARRAYS.values():
    _array.flags.writeable = False


def __getattr__(name: str) -> "Tensor":
    """Make the torch form of a constant when it is first asked for."""
    if name not in _ARRAYS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import torch  # noqa: PLC0415 - the constants themselves must not load torch

    tensor = torch.from_numpy(_ARRAYS[name].copy())
    globals()[name] = tensor
    return tensor
