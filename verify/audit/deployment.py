"""What NF4 does to the two models when `transformers` deploys them: which tensors, cut how, cast from what.

The rule is that of docs/deployment.md. Which tensors are quantized follows from the base's configuration, or from the
skip list of a bitsandbytes configuration in it; a side is cast to the dtype that its own configuration names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from verify.artefact import shown, strict_json
from verify.checks.architecture import CONFIG, Architecture, Skip, architecture
from verify.contract.manifest import is_module_name
from verify.errors import UsageError
from verify.nf4.codebook import BLOCK_SIZE
from verify.nf4.rows import Cast

Named = Literal["BF16", "F16", "F32"]
_NAMED: dict[str, Named] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_CASTS: dict[str, Cast] = {"BF16": "bf16", "F16": "fp16"}
QUANTIZATION = "quantization_config"
FLOATS = ("F32", "BF16", "F16")
"""Dtypes that NF4 can quantize, by their safetensors names."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """How the pair is deployed: blocks of `block_size`, scales in float32, the tensors `quantized` (name → transposed).

    `named` are the dtypes that the two configurations name (base, edited), None for one that leaves weights as stored.
    `ignored` is an output head that loaders take from the embedding. `skip` is the folder's own skip list, None where
    transformers' rule counts; `double_quant` says that its configuration asks for compressed scales.
    """

    architecture: str
    quantized: Mapping[str, bool]
    named: tuple[Named | None, Named | None]
    ignored: frozenset[str]
    skip: Skip
    double_quant: bool
    block_size: int = BLOCK_SIZE

    def casts(self, stored: str) -> tuple[Cast, Cast]:
        """Return what the two sides cast a weight of a stored dtype to before it is quantized."""
        one, two = (_cast(stored, named) for named in self.named)
        return one, two


def deployment(base: Mapping[str, bytes], edited: Mapping[str, bytes], *, tensors: int) -> Deployment:
    """Derive the deployment from the small files of both folders; of an edited side without configuration, the base's.

    Raises ArtefactError MV106 where no model can be built from a configuration, UsageError ME291 where the two describe
    different tensors, ME295 where one asks for another quantization than NF4 or the edited one for another skip list.
    """
    config = _config(base)
    skip, double_quant, plain = _quantization(config)
    files = {**base, CONFIG: json.dumps(plain).encode()} if CONFIG in base else base
    found = architecture(files, (skip,), tensors=tensors)
    other = _config(edited) if CONFIG in edited else config
    own, _, its = _quantization(other)
    if QUANTIZATION in other and own != skip:
        raise UsageError(
            "the two configurations skip different modules",
            expected=f"llm_int8_skip_modules {shown(skip)}, as in the base",
            found=shown(own),
            remedy="give both folders one quantization_config, or remove it",
            error_id="ME295",
        )
    if CONFIG in edited:
        _require_same_tensors(
            found, architecture({**edited, CONFIG: json.dumps(its).encode()}, (skip,), tensors=tensors)
        )
    return Deployment(
        architecture=found.name,
        quantized={entry.name: entry.transposed for entry in found.quantized[skip]},
        named=(_named(config), _named(other)),
        ignored=frozenset() if found.tied is None else frozenset(found.tied[1:]),
        skip=skip,
        double_quant=double_quant,
    )


def _require_same_tensors(base: Architecture, edited: Architecture) -> None:
    """Raise UsageError ME291 unless both sides have one class, one shape per tensor, and a tied head both or neither.

    A head that only the base ties would be left out of the comparison, and is a tensor of its own in the edited model.
    """
    for what in ("name", "tied", "shapes"):
        one, other = getattr(base, what), getattr(edited, what)
        if one != other:
            raise UsageError(
                f"the two configurations describe different models ({what})",
                expected="one class, and the same tensors" if what == "shapes" else f"{shown(one)}, as in the base",
                found="other shapes" if what == "shapes" else shown(other),
                remedy="give two folders of one model, before and after the edit",
                error_id="ME291",
            )


def _config(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return a folder's configuration; an empty one where there is none or no object, which `architecture` refuses."""
    value = strict_json(files[CONFIG], check_id="MV106", name=CONFIG) if CONFIG in files else {}
    return value if isinstance(value, dict) else {}


def _named(config: Mapping[str, Any]) -> Named | None:
    value = config.get("dtype", config.get("torch_dtype"))
    return _NAMED.get(value) if isinstance(value, str) else None


def _cast(stored: str, named: Named | None) -> Cast:
    """Return the cast from a stored dtype; none where it changes no value."""
    return "none" if named is None or named == stored else _CASTS.get(named, "none")


def _quantization(config: Mapping[str, Any]) -> tuple[Skip, bool, dict[str, Any]]:
    """Return the skip list and statistics mode of a folder's own quantization, and its configuration without it."""
    plain = {key: value for key, value in config.items() if key != QUANTIZATION}
    own = config.get(QUANTIZATION)
    if own is None:
        return None, False, plain
    nf4 = isinstance(own, dict) and own.get("load_in_4bit") is True and own.get("bnb_4bit_quant_type") == "nf4"
    if not nf4:
        raise UsageError(
            "the configuration asks for another quantization than NF4",
            expected="no quantization_config, or bitsandbytes with load_in_4bit and bnb_4bit_quant_type nf4",
            found=shown(own),
            remedy="give the folder with the weights as they were before they were quantized",
            error_id="ME295",
        )
    skip = own.get("llm_int8_skip_modules")
    if skip is not None and not (isinstance(skip, list) and all(is_module_name(name) for name in skip)):
        raise UsageError(
            "llm_int8_skip_modules is no list of module names",
            expected="names of letters, digits, _ and dots: regular expressions are refused",
            found=shown(skip),
            remedy="correct it",
            error_id="ME295",
        )
    return None if skip is None else tuple(skip), own.get("bnb_4bit_use_double_quant") is True, plain
