"""Which modules of a model NF4 quantizes when `transformers` deploys it, and which it leaves and why.

The rule of `transformers` 5 with bitsandbytes (`get_keys_to_not_convert`, `should_convert_module` and
`replace_with_bnb_linear` in its `quantizers/` and `integrations/bitsandbytes.py`), restated on a model that may be on
the meta device: only names, classes, shapes and ties are read, never a value. docs/deployment.md tells it in prose;
tests/test_behaviour_deployment.py compares it with real loads.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from verify.errors import UsageError

# A pattern must end at a module boundary of the name.
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"


class Reason(StrEnum):
    """Why a module that holds parameters is not quantized."""

    TIED = "shares its weight with another module"
    OUTPUT_HEAD = "output head"
    LAST = "holds the model's last parameter"
    LISTED = "named by llm_int8_skip_modules"
    FLOAT32 = "named by the model's _keep_in_fp32_modules"
    EMBEDDING = "embedding"
    EXPERTS = "experts held as one 3-D parameter"
    NOT_PLAIN = "not a plain linear layer"
    NO_MATRIX = "norm or other module without a matrix"


@dataclass(frozen=True, slots=True)
class QuantizedModule:
    """A linear layer whose weight NF4 quantizes.

    `weight` is the tensor's name. `shape` is [out, in], the matrix that is cut into blocks row-major. `transposed`
    says that the tensor is stored as [in, out] (GPT-2's Conv1D) and turned before it is cut.
    """

    name: str
    weight: str
    shape: tuple[int, int]
    transposed: bool

    def turned(self, tensor: Tensor) -> Tensor:
        """Return the stored tensor as the matrix that is cut into blocks, or such a matrix as it is stored."""
        return tensor.T.contiguous() if self.transposed else tensor

    def positions(self, indices: Tensor) -> Tensor:
        """Return where flat indices int64 [n] into the stored tensor lie in the flattened matrix, int64 [n]."""
        if not self.transposed:
            return indices
        rows, columns = self.shape
        return indices % rows * columns + indices // rows


@dataclass(frozen=True, slots=True)
class Skipped:
    """A module with parameters of its own that stay as they are; `detail` is the name, pattern or class behind it."""

    name: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """Every module with parameters of its own, in the model's order: quantized or skipped."""

    quantized: tuple[QuantizedModule, ...]
    skipped: tuple[Skipped, ...]


def survey(model: Any, *, skip_modules: Sequence[str] | None = None) -> Survey:
    """Tell the modules of a `transformers` model that NF4 quantizes from the others.

    `skip_modules` is `llm_int8_skip_modules`: as in `transformers`, a list (even an empty one) *replaces* the rule
    that keeps the output head, tied modules and the last parameter. Raises `UsageError` for a pattern that is no
    regular expression.
    """
    patterns = tuple(_patterns(model, skip_modules))
    ties = model.all_tied_weights_keys
    quantized: list[QuantizedModule] = []
    skipped: list[Skipped] = []
    for name, module in model.named_modules():
        if not module._parameters:  # noqa: SLF001  (what a module holds itself, without its children)
            continue
        reason = _reason(name, module, patterns)
        # built as a 4-bit layer, then tied: it holds the other module's plain weight, and fails when it runs
        if reason is None and (source := ties.get(f"{name}.weight")):
            reason = Skipped(name, Reason.TIED, source)
        if reason is not None:
            skipped.append(reason)
            continue
        shape = tuple(module.weight.shape)
        transposed = isinstance(module, Conv1D)
        quantized.append(QuantizedModule(name, f"{name}.weight", shape[::-1] if transposed else shape, transposed))
    return Survey(tuple(quantized), tuple(skipped))


def nf4_linears(model: Any) -> dict[str, Any]:
    """Return the modules that NF4 quantizes when nothing is named to skip, name → module (a Linear, or a Conv1D).

    A Conv1D's weight is stored [in, out] and quantized transposed: see `QuantizedModule.turned`.
    """
    return {entry.name: model.get_submodule(entry.name) for entry in survey(model).quantized}


def cast_of(model: Any, weight: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that `from_pretrained(dtype=...)` casts a weight to before it is quantized.

    It is `dtype`, save where the model's class asks for float32: `_keep_in_fp32_modules` against float16,
    `_keep_in_fp32_modules_strict` against bfloat16 too. These name parameters, and do not keep from quantizing.
    """
    kept: set[str] = set()
    if dtype == torch.float16:
        kept |= set(model._keep_in_fp32_modules or ())  # noqa: SLF001  (transformers has no public name for it)
    if dtype in {torch.float16, torch.bfloat16}:
        kept |= set(model._keep_in_fp32_modules_strict or ())  # noqa: SLF001
    hit = any(re.search(pattern.replace("*", ".*"), weight) for pattern in kept)
    return torch.float32 if hit else dtype


def _patterns(model: Any, skip_modules: Sequence[str] | None) -> Iterator[tuple[Reason, str, str]]:
    """Yield (reason, pattern, detail) of everything that keeps a linear layer from being quantized."""
    if skip_modules is None:
        ties = model.all_tied_weights_keys
        for key, value in sorted(ties.items()):
            yield Reason.TIED, key.removesuffix(".weight"), value
            yield Reason.TIED, value.removesuffix(".weight"), key
        head = model.get_output_embeddings()
        for name, module in model.named_modules():
            if head is not None and module is head:
                yield Reason.OUTPUT_HEAD, name, ""
        # with duplicates: transformers asks before it ties, so that a tied head counts as a parameter of its own
        last = [name for name, _ in model.named_parameters(remove_duplicate=False)][-1]
        yield Reason.LAST, last.removesuffix(".weight"), last
    for pattern in skip_modules or ():
        yield Reason.LISTED, pattern, pattern
    for pattern in sorted(model._keep_in_fp32_modules or ()):  # noqa: SLF001
        yield Reason.FLOAT32, pattern, pattern


def _reason(name: str, module: nn.Module, patterns: Sequence[tuple[Reason, str, str]]) -> Skipped | None:
    """Return why a module is not quantized, or None where it is."""
    # the exact class: a subclass of Linear (Falcon's) may compute something else, and is left alone
    if type(module) is nn.Linear or isinstance(module, Conv1D):
        for reason, pattern, detail in patterns:
            if _matches(pattern, name):
                return Skipped(name, reason, detail)
        return None
    dimensions = max(tensor.dim() for tensor in module.parameters(recurse=False))
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return Skipped(name, Reason.EMBEDDING, kind)
    if dimensions < 2:
        return Skipped(name, Reason.NO_MATRIX, kind)
    convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return Skipped(name, Reason.EXPERTS if dimensions == 3 and not convolution else Reason.NOT_PLAIN, kind)


def _matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern is a prefix (or a regular expression for one) up to a boundary, or any suffix."""
    try:
        return re.match(rf"(?:{pattern}){_BOUNDARY}", name) is not None or name.endswith(pattern)
    except re.error as error:
        raise UsageError(
            "a pattern of modules to skip is no regular expression",
            expected="module names, or regular expressions for them",
            found=f"{pattern!a}: {error}",
            remedy="correct llm_int8_skip_modules",
        ) from error
