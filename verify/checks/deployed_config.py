"""What surrounds the tensors of a deployed folder: its configuration, its `quantization_config`, its other files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from verify.artefact import shown, strict_json
from verify.artefact.bnb import DTYPES
from verify.artefact.weights import INDEX_NAME
from verify.behaviour.inert import refuse_code
from verify.checks.architecture import CONFIG, Skip, architecture
from verify.checks.evidence import Evidence
from verify.contract.manifest import is_module_name
from verify.errors import ArtefactError

CHECK = "MV702"
PROFILE = "MV703"
QUANTIZATION = "quantization_config"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
_WITH_TOKENIZER = frozenset(["chat_template.jinja", "tokenizer_config.json"])
"""Files without which the certified tokenizer is another one."""
_FREE = frozenset(["README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "USE_POLICY.md", ".gitattributes"])
"""Files that no loader reads."""
_OF_THE_COPY = frozenset(["_name_or_path", "dtype", "quantization_config", "torch_dtype", "transformers_version"])
"""Keys of a configuration that say how a copy was made or is stored, not what the model computes."""
_DERIVED = {"output_attentions": False, "output_hidden_states": False, "use_cache": True, "_from_model_config": True}
"""What transformers writes into a generation configuration that it derives from the model's."""
_FIXED: Mapping[str, tuple[object, ...]] = {
    "quant_method": ("bitsandbytes",),
    "load_in_4bit": (True,),
    "_load_in_4bit": (True,),
    "load_in_8bit": (False,),
    "_load_in_8bit": (False,),
    "bnb_4bit_quant_type": ("nf4",),
    "bnb_4bit_quant_storage": ("uint8",),
    "llm_int8_enable_fp32_cpu_offload": (False,),
    "llm_int8_has_fp16_weight": (False,),
}
_REQUIRED = frozenset(["quant_method", "load_in_4bit", "bnb_4bit_quant_type"])
_FREE_FIELDS = frozenset(["bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant", "llm_int8_skip_modules"])
_THRESHOLD = "llm_int8_threshold"
_REMEDY = "do not deploy the folder; quantize the certified model again with transformers and save_pretrained"


@dataclass(frozen=True)
class Settings:
    """What a deployed configuration says: the cast (BF16, F16 or F32), and its `quantization_config`."""

    dtype: str
    compute_dtype: str
    double_quant: bool
    skip: Skip


def read_config(others: Mapping[str, bytes], evidence: Evidence) -> Settings:
    """Return a deployed folder's settings.

    Raises ArtefactError MV702 where the folder would run code or its configuration is not the certified model's, MV703
    where its `quantization_config` is not one of NF4 that can be examined.
    """
    if CONFIG not in others:
        raise _refused(CHECK, "the deployed folder has no configuration", found=f"no {CONFIG}")
    config = strict_json(others[CONFIG], check_id=CHECK, name=f"the deployed {CONFIG}")
    if not isinstance(config, dict):
        raise _refused(CHECK, "the deployed configuration is not an object", found=CONFIG)
    quantization = config.pop(QUANTIZATION, None)
    plain = {**others, CONFIG: json.dumps(config).encode()}
    refuse_code(plain)
    structure = architecture(plain, evidence.architecture.quantized, tensors=len(evidence.weights.tensors()))
    settings = _settings(quantization, structure.dtypes)
    if structure.name != evidence.architecture.name or structure.shapes != evidence.architecture.shapes:
        raise _refused(CHECK, "another model", expected=evidence.architecture.name, found=structure.name)
    _require_same_meaning(plain, evidence)
    return settings


def other_files(others: Mapping[str, bytes], certified: Mapping[str, bytes]) -> tuple[list[str], list[str], int]:
    """Compare the files beside the weights: those not as certified, those not there, and how many were compared.

    The configuration is not among them: `read_config` compares what it means.
    """
    apart = _FREE | {CONFIG, INDEX_NAME}
    mine, theirs = others.keys() - apart, certified.keys() - apart
    odd = [name for name in sorted(mine) if not _same_file(name, others[name], certified)]
    absent = theirs - mine
    needed = absent & _WITH_TOKENIZER if TOKENIZER in mine else frozenset[str]()
    if GENERATION in absent and not _is_derived(certified[GENERATION], certified):
        needed |= {GENERATION}
    odd += [f"{name} (not there)" for name in sorted(needed)]
    return odd, sorted(absent - needed), len(mine)


def _same_file(name: str, data: bytes, certified: Mapping[str, bytes]) -> bool:
    if name == GENERATION:
        return _same_generation(data, certified.get(name)) or (
            GENERATION not in certified and _is_derived(data, certified)
        )
    if name not in certified:
        return False
    if data == certified[name]:
        return True
    one, other = _json(data), _json(certified[name])
    return name.endswith(".json") and not isinstance(one, bytes | None) and _same_json(one, other)


def _same_generation(data: bytes, certified: bytes | None) -> bool:
    if certified is None or data == certified:
        return data == certified
    values = [_json(data), _json(certified)]
    plain = [
        {key: part for key, part in value.items() if key not in _OF_THE_COPY and key not in _DERIVED}
        for value in values
        if isinstance(value, dict)
    ]
    return len(plain) == len(values) and _same_json(*plain)


def _is_derived(data: bytes, certified: Mapping[str, bytes]) -> bool:
    """Tell whether a generation configuration says only what transformers derives from the certified configuration."""
    value, config = _json(data), _json(certified[CONFIG])
    if not isinstance(value, dict) or not isinstance(config, dict):
        return False
    known = {**config, **_DERIVED}
    return all(key in _OF_THE_COPY or _equal(part, known.get(key)) for key, part in value.items())


def _json(data: bytes) -> object:
    """Return strict JSON as a value; the bytes themselves where it is none."""
    try:
        value = strict_json(data, check_id=CHECK, name="a file", max_bytes=1 << 28)
    except ArtefactError:
        return data
    return value


def _same_json(one: object, other: object) -> bool:
    """Tell whether two JSON values are one; to Python's == 1, 1.0 and true are."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _require_same_meaning(plain: Mapping[str, bytes], evidence: Evidence) -> None:
    """Raise ArtefactError MV702 unless transformers reads the same model from both configurations."""
    from verify.behaviour.loading import open_config  # noqa: PLC0415  (transformers takes seconds to load)

    read = open_config(plain).to_dict()
    one = dict(_leaves("", read))
    other = dict(_leaves("", open_config(evidence.others).to_dict()))
    _require_nothing_ignored(plain, evidence, read)
    odd = sorted(key for key in one.keys() | other.keys() if not _equal(one.get(key), other.get(key)))
    if odd:
        key = odd[0]
        expected, found = (f"{key.lstrip('.')!a}: {shown(part.get(key, 'absent'))}" for part in (other, one))
        raise _refused(CHECK, "the configuration is not the certified one's", expected=expected, found=found)


def _require_nothing_ignored(plain: Mapping[str, bytes], evidence: Evidence, read: Mapping[str, object]) -> None:
    """Raise ArtefactError MV702 for a key that this transformers folds away or drops, and another loader may follow.

    An older one takes `rope_theta` from beside `rope_parameters`, say. As in the certified file such a key may stay.
    """
    one, other = _json(plain[CONFIG]), _json(evidence.others[CONFIG])
    if not isinstance(one, dict) or not isinstance(other, dict):
        raise _refused(CHECK, "the configuration is no object", found=CONFIG)
    for key in sorted(one.keys() - read.keys() - _OF_THE_COPY):
        if key not in other or not _same_json(one[key], other[key]):
            expected, found = (f"{key!a}: {shown(part.get(key, 'absent'))}" for part in (other, one))
            message = "the configuration has a key that loaders read in two ways"
            raise _refused(CHECK, message, expected=expected, found=found)


def _leaves(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the values of a configuration by their path, without the keys that belong to a copy."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            if key not in _OF_THE_COPY:
                yield from _leaves(f"{prefix}.{key}", part)
    elif isinstance(value, list | tuple) and value:
        for at, part in enumerate(value):
            yield from _leaves(f"{prefix}[{at}]", part)
    else:
        yield prefix, value


def _settings(value: object, dtypes: frozenset[str]) -> Settings:
    if not isinstance(value, dict):
        raise _refused(PROFILE, f"no {QUANTIZATION}", expected="that of bitsandbytes, NF4", found=shown(value))
    known = _FIXED.keys() | _FREE_FIELDS | {_THRESHOLD}
    for key in sorted(value.keys() - known):
        raise _refused(PROFILE, f"{QUANTIZATION} has a field that is not known", found=shown(key))
    for key, allowed in _FIXED.items():
        if (key in value or key in _REQUIRED) and not any(_equal(value.get(key), item) for item in allowed):
            raise _refused(
                PROFILE, f"{QUANTIZATION}, {key}", expected=shown(allowed[0]), found=shown(value.get(key, "absent"))
            )
    if type(value.get(_THRESHOLD, 6.0)) not in (int, float):
        raise _refused(PROFILE, f"{QUANTIZATION}, {_THRESHOLD}", expected="a number", found=shown(value[_THRESHOLD]))
    double, skip = value.get("bnb_4bit_use_double_quant", False), value.get("llm_int8_skip_modules")
    compute = value.get("bnb_4bit_compute_dtype", "float32")
    if not isinstance(double, bool) or not isinstance(compute, str) or compute not in DTYPES:
        raise _refused(PROFILE, f"{QUANTIZATION}: scales or compute dtype", found=f"{shown(double)}, {shown(compute)}")
    if skip is not None and not (isinstance(skip, list) and all(is_module_name(name) for name in skip)):
        raise _refused(PROFILE, f"{QUANTIZATION}, llm_int8_skip_modules", expected="a list", found=shown(skip))
    if len(dtypes) != 1:
        named = ", ".join(sorted(dtypes)) or "none"
        raise _refused(PROFILE, "the deployed configuration names no single dtype", expected="one", found=named)
    return Settings(next(iter(dtypes)), compute, double, None if skip is None else tuple(skip))


def _refused(check: str, reason: str, *, expected: str = "", found: str = "") -> ArtefactError:
    return ArtefactError(check, reason, expected=expected, found=found, remedy=_REMEDY)
