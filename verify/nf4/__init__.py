"""NF4 exactly: the codebook, the quantizer, and what it takes for an edit to survive it (DESIGN sections 2 and 3)."""

from verify.nf4.codebook import LEVELS, THRESHOLDS, WIDTHS
from verify.nf4.quantize import Quantized, block_scales, dequantize, quantize
from verify.nf4.survival import Survival, survival

__all__ = [
    "LEVELS",
    "THRESHOLDS",
    "WIDTHS",
    "Quantized",
    "Survival",
    "block_scales",
    "dequantize",
    "quantize",
    "survival",
]
