"""Models as they are deployed: full precision, and after NF4, built from bytes that were hashed.

Nothing here runs code from a model folder, reads a pickle, or touches the network.
"""

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

from verify.behaviour.inert import refuse_code
from verify.behaviour.modules import survey
from verify.behaviour.refusing import GuardedTokenizer, first_line, refusing, unusable
from verify.behaviour.tokenizing import refuse_unbounded
from verify.errors import ArtefactError
from verify.nf4 import dequantize, quantize

# What building a model of a hostile configuration can raise inside transformers.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
_TRIED = 4
"""Tokens that a model is tried with: more than one, so that they attend to each other."""


@dataclass(frozen=True, slots=True)
class Language:
    """A causal language model with its tokenizer, in evaluation mode, float32, parameters frozen."""

    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the model's inputs belong."""
        return cast(torch.device, self.model.device)

    def to(self, device: torch.device) -> "Language":
        """Move the model there, in place."""
        self.model.to(device)
        return self


@dataclass(frozen=True, slots=True)
class Opened:
    """What a model folder says of itself: its configuration and its tokenizer."""

    config: Any
    tokenizer: Any


def open_folder(files: Mapping[str, bytes]) -> Opened:
    """Read the configuration and the tokenizer from a folder's files (name → bytes).

    Raises `ArtefactError` MV106 where the folder would run code, change its weights on loading, or cannot be read.
    """
    refuse_code(files)
    refuse_unbounded(files)
    with tempfile.TemporaryDirectory(prefix="mansu-") as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with refusing("its configuration or tokenizer cannot be read"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return Opened(config, GuardedTokenizer(tokenizer))


def open_config(files: Mapping[str, bytes]) -> Any:
    """Read the configuration alone from a folder's files, which may hold no tokenizer; raises as `open_folder` does."""
    refuse_code(files)
    with tempfile.TemporaryDirectory(prefix="mansu-") as folder:
        (Path(folder) / "config.json").write_bytes(files.get("config.json", b""))
        with refusing("its configuration cannot be read"):
            return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def load(files: Mapping[str, bytes], tensors: Mapping[str, Tensor]) -> Language:
    """Build a model from its configuration and tokenizer files (name → bytes) and its tensors (name → weights).

    Raises `ArtefactError` MV106 where the configuration would run code, names an unknown architecture, or does not
    fit the tensors.
    """
    opened = open_folder(files)
    return build(opened, tensors)


def build(opened: Opened, tensors: Mapping[str, Tensor]) -> Language:
    """Build the model of an opened folder from its tensors.

    Raises `ArtefactError` MV106 on a misfit, and for a model that builds and cannot run: its configuration contradicts
    itself.
    """
    model = empty_model(opened.config)
    fill(model, tensors)
    with refusing("no prediction can be made with its configuration"), torch.no_grad():
        model(input_ids=torch.zeros(1, _TRIED, dtype=torch.int64))
    return Language(model, opened.tokenizer)


def empty_model(config: Any) -> Any:
    """Return a float32 model of a configuration, in evaluation mode, without drawing random weights.

    The configuration itself stays as it is: transformers would write the dtype and the attention into it. Raises
    `ArtefactError` MV106 for an unknown architecture or an impossible configuration.
    """
    factory: Any = AutoModelForCausalLM
    # named, for a configuration may ask for a kernel from the network; Gemma 2 has no sdpa
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    attention = "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"
    try:
        with torch.device("meta"):
            model = factory.from_config(copy.deepcopy(config), dtype=torch.float32, attn_implementation=attention)
    except _UNREADABLE as error:
        raise unusable("no model can be built from its configuration", first_line(error)) from error
    return model.eval()


def fill(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Give a model its weights, as float32 copies, and freeze them; raises `ArtefactError` MV106 on a misfit."""
    tied = bool(model.config.tie_word_embeddings)
    state = {
        name: tensor.to(torch.float32, copy=True)
        for name, tensor in tensors.items()
        if not (tied and name == "lm_head.weight")
    }
    try:
        missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise unusable("tensors do not fit the configuration", ascii(str(error).splitlines()[-1].strip())) from error
    if tied:
        model.tie_weights()
        missing = [name for name in missing if name != "lm_head.weight"]
    if missing or unexpected:
        raise unusable(
            "tensors do not fit the configuration", f"missing {missing[:3]!a}, unexpected {unexpected[:3]!a}"
        )
    _materialize_buffers(model)
    model.requires_grad_(requires_grad=False)


def nf4_copy(language: Language, stored: torch.dtype, *, skip_modules: Sequence[str] | None = None) -> Language:
    """Return the model as NF4 deploys it: every linear weight dequantized to the stored dtype, then float32.

    `skip_modules` is a deployment's `llm_int8_skip_modules`, None for transformers' own rule.

    The copy shares all other weights. Carries its own proof: raises `ArtefactError` MV302 unless quantizing the
    copy gives the very codes it was made from.
    """
    return variant(language, dict(_dequantized(language.model, stored, skip_modules)))


def into_nf4(language: Language, stored: torch.dtype, *, skip_modules: Sequence[str] | None = None) -> Language:
    """Do the same in place, with one weight more in memory than the model has; what it was is gone."""
    for name, weight in _dequantized(language.model, stored, skip_modules):
        module, _, leaf = name.rpartition(".")
        # a parameter of its own: a quantized output head leaves the embedding that it was tied to as it is
        setattr(language.model.get_submodule(module), leaf, nn.Parameter(weight, requires_grad=False))
    return language


def _dequantized(
    model: nn.Module, stored: torch.dtype, skip_modules: Sequence[str] | None
) -> Iterator[tuple[str, Tensor]]:
    for entry in survey(model, skip_modules=skip_modules).quantized:
        quantized = quantize(entry.turned(model.get_parameter(entry.weight).to(stored)), name=entry.weight)
        weight = dequantize(quantized, stored).float()
        if not torch.equal(quantize(weight).codes, quantized.codes):
            raise ArtefactError(
                "MV302",
                "NF4 was not applied as defined",
                expected="the dequantized weight has the codes it was made from",
                found=f"other codes in {entry.name}",
                remedy="report this: the measurement under NF4 cannot be trusted",
            )
        yield entry.weight, entry.turned(weight)


def variant(language: Language, weights: Mapping[str, Tensor]) -> Language:
    """Return a model with these weights (name → float32) in place of its own; it shares all others."""
    model = empty_model(language.model.config)
    model.load_state_dict({**language.model.state_dict(), **weights}, strict=False, assign=True)
    _materialize_buffers(model)
    model.requires_grad_(requires_grad=False)
    return Language(model, language.tokenizer)


def _materialize_buffers(model: nn.Module) -> None:
    """Rotary tables and Gemma's embedding scale are computed, not stored: compute them again, off the meta device."""
    for module in model.modules():
        if not any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            continue
        if hasattr(module, "config") and not any(True for _ in module.parameters()):
            module.__init__(module.config)  # type: ignore[misc]
        elif isinstance(scale := getattr(module, "scalar_embed_scale", None), float):
            module.register_buffer("embed_scale", torch.tensor(scale), persistent=False)
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if left:
        raise unusable("some weights are in no file", f"no values for {left[:3]!a}")
    model.to(next(model.parameters()).device)  # what was computed again lies where the weights do
