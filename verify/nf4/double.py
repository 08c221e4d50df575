"""Double quantization of NF4 block scales, bit for bit what bitsandbytes 0.50.2 does on CPU.

The tensor's mean is subtracted; what is left is quantized in blocks of 256 to the 8-bit *dynamic* codebook (Dettmers et
al., arXiv 2110.02861). The CPU kernel does not search that codebook: it rounds the scaled value to one of 65,536 points
between −1 and 1 and looks the point's nearest code up, so its thresholds lie up to 2⁻¹⁶ off the midpoints.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from verify.errors import ArtefactError
from verify.nf4.dynamic import dynamic_map

_BLOCK = 256
_POINTS = 65536


@dataclass(frozen=True, slots=True)
class DoubleQuantized:
    """Block scales in 8 bits: uint8 `codes` `[blocks]`, float32 `absmax` `[ceil(blocks / 256)]`, float32 `offset` `[]`.

    `offset` is torch's mean of the scales. Its last bits depend on the number of threads that torch runs on when there
    are more than 32,768 scales, and with them, in rare cases, a code.
    """

    codes: Tensor
    absmax: Tensor
    offset: Tensor

    def scales(self) -> Tensor:
        """Return the block scales that a dequantizer sees, float32 `[blocks]`."""
        return _levels()[self.codes.int()] * _spread(self.absmax, self.codes.numel()) + self.offset


@cache
def _levels() -> Tensor:
    return torch.from_numpy(dynamic_map())


@cache
def _nearest() -> Tensor:
    """Return the nearest code of each point 2i/65535 − 1, uint8 `[65536]`; between two, the lower."""
    levels = _levels()
    points = torch.arange(_POINTS, dtype=torch.float32) / (_POINTS - 1) * 2 - 1
    right = torch.searchsorted(levels, points)
    left = (right - 1).clamp(min=0)
    nearer = (levels[right] - points).abs() < (points - levels[left]).abs()
    return torch.where(nearer, right, left).to(torch.uint8)


def double_quantize(absmax: Tensor, *, offset: float | None = None) -> DoubleQuantized:
    """Quantize block scales (float32 `[blocks]`) as bitsandbytes does under `compress_statistics=True`.

    `offset`, a float32, is subtracted instead of the mean: for statistics that another backend or number of threads
    has averaged. Raises `ArtefactError` MV201 for NaN or infinity, with the index of the first, and where the sum of
    the scales leaves float32.
    """
    scales = absmax.detach().float().cpu()
    mean = scales.mean() if offset is None else torch.tensor(offset, dtype=torch.float32)
    if scales.numel() and not bool(torch.isfinite(mean)):
        bad = (~torch.isfinite(scales)).nonzero()
        index = int(bad[0, 0]) if len(bad) else None
        raise ArtefactError(
            "MV201",
            "the block scales cannot be averaged",
            expected="finite scales with a finite sum",
            found=f"a mean of {mean.item()}" if index is None else f"{scales[index].item()} at index {index}",
            remedy="reject the file: no quantizer defines a code for it",
        )
    codes, rest_absmax = _quantize_blockwise(scales - mean)
    return DoubleQuantized(codes, rest_absmax, mean)


def _quantize_blockwise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize float32 `[n]` to uint8 codes `[n]` of the dynamic codebook, with the absmax of each block."""
    blocks = torch.nn.functional.pad(values, (0, -len(values) % _BLOCK)).reshape(-1, _BLOCK)
    absmax = blocks.abs().amax(dim=1) if len(values) else values
    # a block of zeros is coded 0, and so is a zero times the infinite reciprocal of a subnormal
    x = values * _spread(1 / absmax, len(values))
    x = x.nan_to_num(nan=-1.0, posinf=1.0, neginf=-1.0).clamp(-1, 1)
    point = ((x + 1) * 0.5 * (_POINTS - 1) + 0.5).int()
    return _nearest()[point], absmax


def _spread(absmax: Tensor, count: int) -> Tensor:
    return absmax.repeat_interleave(_BLOCK)[:count]
