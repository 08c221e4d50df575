"""What a model becomes when `transformers` deploys it in NF4, from its configuration alone: no weight is read.

The question is put as a deployer would put it: the `BitsAndBytesConfig` and the `dtype` that `from_pretrained` gets.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from verify.behaviour.loading import empty_model
from verify.behaviour.modules import QuantizedModule, Skipped, cast_of, survey
from verify.errors import UsageError
from verify.nf4.codebook import BLOCK_SIZE

_CASTS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is quantized, what is not and why, and in which types.

    `dtype` is what `from_pretrained` casts every weight to; `casts` says for each quantized weight (by tensor name)
    what it is cast to before it is quantized, which differs from `dtype` only where the model's class insists on
    float32. A dequantized weight has its cast's dtype and is then computed with in `compute_dtype`. `storage` is the
    dtype that holds the packed codes (its bytes are the same for all). Scales are float32, or with `double_quant`
    8-bit in blocks of 256. Blocks are of `block_size` values.
    """

    quantized: tuple[QuantizedModule, ...]
    skipped: tuple[Skipped, ...]
    dtype: torch.dtype
    casts: dict[str, torch.dtype]
    compute_dtype: torch.dtype
    storage: torch.dtype
    double_quant: bool
    block_size: int = BLOCK_SIZE

    def matrix(self, module: QuantizedModule, stored: Tensor) -> Tensor:
        """Return what the quantizer gets for a stored weight: cast, and transposed where the module says so."""
        return module.turned(stored.to(self.casts[module.weight]))


def deployment(
    config: Any, quantization: BitsAndBytesConfig | None = None, *, dtype: torch.dtype | None = None
) -> Deployment:
    """Derive what `from_pretrained(folder, quantization_config=quantization, dtype=dtype)` quantizes, and how.

    `config` is the folder's `transformers` configuration of a causal language model. `quantization` is NF4 with
    float32 scales where None. `dtype` None is `transformers`' own default, "auto": the dtype that the configuration
    names, whatever the file holds.

    Raises `UsageError` where the result would not be NF4 (a bare `load_in_4bit=True` is FP4), or depends on more than
    the configuration (the file's dtype, a device map, weights that are quantized already); `ArtefactError` MV106 where
    no model can be built from the configuration.
    """
    factory: Any = BitsAndBytesConfig
    quantization = quantization or factory(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    _check_quantization(config, quantization)
    dtype = dtype or _named_dtype(config)
    if dtype not in _CASTS:
        raise _refused(
            "bitsandbytes cannot quantize this dtype", f"one of {_CASTS}", str(dtype), "choose another dtype"
        )
    model = empty_model(config)
    found = survey(model, skip_modules=quantization.llm_int8_skip_modules)
    return Deployment(
        quantized=found.quantized,
        skipped=found.skipped,
        dtype=dtype,
        casts={entry.weight: cast_of(model, entry.weight, dtype) for entry in found.quantized},
        compute_dtype=quantization.bnb_4bit_compute_dtype,
        storage=quantization.bnb_4bit_quant_storage,
        double_quant=quantization.bnb_4bit_use_double_quant,
    )


def _check_quantization(config: Any, quantization: Any) -> None:
    method = quantization.quantization_method()
    if method != "nf4":
        raise _refused(
            "the quantization is not NF4",
            'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")',
            str(method or "no quantization"),
            'say bnb_4bit_quant_type="nf4": load_in_4bit=True alone means FP4',
        )
    if quantization.llm_int8_enable_fp32_cpu_offload:
        raise _refused(
            "what is quantized depends on the device map",
            "llm_int8_enable_fp32_cpu_offload=False",
            "llm_int8_enable_fp32_cpu_offload=True, which leaves what the map puts on the CPU unquantized",
            "deploy without offloading",
        )
    if getattr(config, "quantization_config", None) is not None:
        raise _refused(
            "the model is quantized already",
            "a configuration without quantization_config",
            "a quantization_config, which overrides the deployer's",
            "use the folder with the weights as they were trained",
        )


def _named_dtype(config: Any) -> torch.dtype:
    dtype = config.dtype
    if isinstance(dtype, torch.dtype):
        return dtype
    raise _refused(
        "the configuration does not name its dtype",
        'a "dtype" in config.json, or the dtype that from_pretrained gets',
        str(dtype),
        "pass the dtype: transformers would take that of the first tensor in the file",
    )


def _refused(message: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(message, expected=expected, found=found, remedy=remedy)
