"""NF4 exactly: the codebook, the quantizer, and what it takes for an edit to survive it (docs/nf4.md, docs/floor.md).

The names below load on first use, so that `verify.nf4.codebook` and `verify.nf4.kernels` come without torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.nf4.codebook import LEVELS, THRESHOLDS, WIDTHS
    from verify.nf4.double import DoubleQuantized, double_quantize
    from verify.nf4.quantize import Quantized, block_scales, dequantize, quantize
    from verify.nf4.survival import Survival, survival

__all__ = [
    "LEVELS",
    "THRESHOLDS",
    "WIDTHS",
    "DoubleQuantized",
    "Quantized",
    "Survival",
    "block_scales",
    "dequantize",
    "double_quantize",
    "quantize",
    "survival",
]

_HOMES = {
    "LEVELS": "codebook",
    "THRESHOLDS": "codebook",
    "WIDTHS": "codebook",
    "DoubleQuantized": "double",
    "double_quantize": "double",
    "Quantized": "quantize",
    "Survival": "survival",
    "block_scales": "quantize",
    "dequantize": "quantize",
    "quantize": "quantize",
    "survival": "survival",
}


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # importing the module `quantize` or `survival` would otherwise hide the function of the same name
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in, when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


sys.modules[__name__].__class__ = _Package
