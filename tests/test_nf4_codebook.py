"""`verify.nf4.codebook` against bitsandbytes, and which of `verify.nf4` comes without torch."""

import subprocess
import sys

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch

import verify.nf4
from verify.nf4 import LEVELS, THRESHOLDS, WIDTHS
from verify.nf4.codebook import LEVELS_F32, THRESHOLDS_F32, WIDTHS_F32


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_levels_and_widths() -> None:
    assert torch.equal(LEVELS, bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(THRESHOLDS, (LEVELS[1:] + LEVELS[:-1]) / 2)
    assert WIDTHS.sum().item() == pytest.approx(2.0, abs=1e-6)
    assert WIDTHS.argmin().item() == 8
    assert WIDTHS[1:-1].argmax().item() == 0
    assert LEVELS[7].item() == 0.0


@pytest.mark.parametrize(
    ("tensor", "array"), [(LEVELS, LEVELS_F32), (THRESHOLDS, THRESHOLDS_F32), (WIDTHS, WIDTHS_F32)]
)
def test_torch_and_numpy_hold_the_same_bits(tensor: torch.Tensor, array: np.ndarray) -> None:
    assert tensor.dtype == torch.float32
    assert array.dtype == np.float32
    assert np.array_equal(tensor.numpy().view(np.uint32), array.view(np.uint32))
    assert not np.shares_memory(tensor.numpy(), array)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


@pytest.mark.parametrize("module", ["codebook", "kernels"])
def test_comes_without_torch(module: str) -> None:
    done = run(f"import sys, verify.nf4.{module}; sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_a_module_does_not_hide_the_function_of_its_name() -> None:
    modules_first = "import verify.nf4.quantize, verify.nf4.survival\nfrom verify.nf4 import quantize, survival\n"
    names_first = "from verify.nf4 import quantize, survival\nimport verify.nf4.quantize, verify.nf4.survival\n"
    for code in (modules_first, names_first):
        done = run(code + "assert callable(quantize) and callable(survival) and callable(verify.nf4.quantize)")
        assert done.returncode == 0, done.stderr


def test_every_public_name_resolves() -> None:
    assert set(verify.nf4.__all__) == set(verify.nf4._HOMES)
    for name in verify.nf4.__all__:
        assert getattr(verify.nf4, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        verify.nf4.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="NOTHING"):
        verify.nf4.codebook.NOTHING  # noqa: B018
