"""What tensors a model of a configuration has, and which of them NF4 quantizes, without torch for the common families.

The static verifier must not wait for torch and transformers to load. The Llama-like families are therefore written down
here (tests compare them, shape by shape, with what transformers builds); every other one is built on the meta device.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from verify.artefact import shown, strict_json
from verify.behaviour.inert import objects
from verify.errors import ArtefactError

CHECK = "MV106"
CONFIG = "config.json"
_REMEDY = "do not deploy this folder; ask the producer for one that loads without code"

Skip = tuple[str, ...] | None
"""`llm_int8_skip_modules`: None for transformers' own rule, which a list, even an empty one, replaces."""


@dataclass(frozen=True)
class Quantizable:
    """A tensor that NF4 quantizes; `transposed` says that it is stored as [in, out] and turned before it is cut."""

    name: str
    transposed: bool


@dataclass(frozen=True)
class Architecture:
    """A model's class, the names and shapes of its tensors, and what NF4 quantizes under each skip list.

    `tied` names the embedding and the output head that must share their values, where they do. `dtypes` are what the
    configuration casts weights to on loading, by their safetensors names; none where it leaves them as stored.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    quantized: Mapping[Skip, tuple[Quantizable, ...]]
    tied: tuple[str, str] | None
    dtypes: frozenset[str] = frozenset()

    def transposed(self) -> frozenset[str]:
        """Return the tensors that some deployment turns before it quantizes them."""
        return frozenset(entry.name for entries in self.quantized.values() for entry in entries if entry.transposed)


_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")
"""What families call their number of layers: building them one by one must end."""


def architecture(files: Mapping[str, bytes], skips: Iterable[Skip], *, tensors: int) -> Architecture:
    """Return the architecture that a model folder's configuration describes.

    `files` are the folder's files beside its weights, which hold `tensors` tensors. Raises ArtefactError MV106 for a
    configuration that is missing, that no model can be built from, that asks for more layers than there are tensors,
    or that says one thing to one loader and another to the next.
    """
    if CONFIG not in files:
        raise _unusable("it has no configuration", f"no {CONFIG}")
    config = strict_json(files[CONFIG], check_id=CHECK, name=CONFIG)
    if not isinstance(config, dict):
        raise _unusable("its configuration is not an object", CONFIG)
    parts = list(objects(config))
    stated = [part.get(name) for part in parts for name in _LAYERS]
    layers = max((count for count in stated if isinstance(count, int)), default=0)
    if layers > tensors:
        raise _unusable("tensors do not fit the configuration", f"{layers} layers and {tensors} tensors")
    dtypes = _dtypes(config, parts)
    _require_runnable(config)
    wanted = tuple(dict.fromkeys(skips))
    found = _llama_like(config) if wanted == (None,) else None
    found = _built(files, wanted, tensors) if found is None else found
    classes = config.get("architectures")
    if classes not in (None, [], [found.name]):  # other servers go by it, and would run another class
        raise _unusable("loaders disagree on its class", f"{found.name} by model_type, architectures {shown(classes)}")
    return replace(found, dtypes=dtypes)


_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def _require_runnable(config: Mapping[str, Any]) -> None:
    """Raise ArtefactError MV106 for numbers with which a model is built and cannot run."""
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int) and (groups <= 0 or heads % groups):
        raise _unusable("its heads cannot share their keys", f"{heads} heads, {groups} key-value heads")
    window = config.get("sliding_window")
    if isinstance(window, int) and window <= 0 and config.get("use_sliding_window", True) is not False:
        raise _unusable("its window holds no token", f"sliding_window {window}")


def _dtypes(config: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the types that a configuration and its parts name; MV106 where loaders would read it differently."""
    named = {name: config[name] for name in ("dtype", "torch_dtype") if config.get(name) is not None}
    for value in named.values():
        if not isinstance(value, str) or value not in _DTYPES:
            raise _unusable("it names no dtype that can be examined", shown(value))
    if len(set(named.values())) > 1:  # older loaders know only the second
        raise _unusable("loaders disagree on its dtype", shown(named))
    nested = (part.get(name) for part in parts for name in ("dtype", "torch_dtype"))
    return frozenset(_DTYPES[value] for value in nested if isinstance(value, str) and value in _DTYPES)


def require_fit(found: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ArtefactError MV106 unless the weight files hold exactly the architecture's tensors."""
    wanted = dict(found.shapes)
    if found.tied is not None and found.tied[1] not in shapes:
        wanted.pop(found.tied[1], None)
    odd = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    if odd:
        text = f"{odd[0]!a}: {shapes.get(odd[0], 'missing')}, wanted {wanted.get(odd[0], 'no such tensor')}"
        raise _unusable("tensors do not fit the configuration", text)


_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


_PLAIN = frozenset(
    [
        "architectures",
        "attention_bias",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "max_window_layers",
        "mlp_bias",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "pad_token_id",
        "pretraining_tp",
        "rms_norm_eps",
        "rope_parameters",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "use_sliding_window",
        "vocab_size",
    ]
)
"""Keys of a Llama-like configuration that are known to leave the tensors and what is quantized as written down here."""
_ROPE = frozenset(
    [
        "rope_type",
        "rope_theta",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "partial_rotary_factor",
    ]
)

_NUMBERS = ("attention_dropout", "initializer_range", "max_position_embeddings", "rms_norm_eps", "rope_theta")


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Tell whether nothing in a configuration is unknown here; whatever is, transformers itself must judge."""
    rope = config.get("rope_parameters") or {}
    if not config.keys() <= _PLAIN or config.get("hidden_act") != "silu" or not isinstance(rope, dict):
        return False
    kind = rope.get("rope_type", "default")
    numbers = (value for key, value in rope.items() if key != "rope_type")
    return (
        rope.keys() <= _ROPE
        and kind in ("default", "linear", "llama3")
        and all(type(value) in (int, float) for value in (*numbers, *(config.get(name, 0) for name in _NUMBERS)))
    )


@dataclass(frozen=True)
class _Sizes:
    layers: int
    hidden: int
    inner: int
    heads: int
    key_value_heads: int
    vocabulary: int
    head: int


def _llama_like(config: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a Llama-like configuration that states all it needs, else None."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _CLASSES or not _is_plain(config) or (sizes := _sizes(config)) is None:
        return None
    flags = [config.get(name, False) for name in ("tie_word_embeddings", "attention_bias", "mlp_bias")]
    if not all(isinstance(flag, bool) for flag in flags):
        return None
    tied, attention_bias, mlp_bias = flags
    if kind in ("mistral", "qwen2"):
        attention_bias = mlp_bias = False
    if kind == "qwen3":
        mlp_bias = False
    shapes = dict(_tensors(kind, sizes, attention_bias=attention_bias, mlp_bias=mlp_bias))
    quantized = tuple(
        Quantizable(name, transposed=False)
        for name, shape in shapes.items()
        if len(shape) == 2 and name.startswith("model.layers.")
    )
    ties = ("model.embed_tokens.weight", "lm_head.weight") if tied else None
    return Architecture(_CLASSES[kind], shapes, {None: quantized}, ties)


def _sizes(config: Mapping[str, Any]) -> _Sizes | None:
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    values = [config.get(name) for name in (*names, "vocab_size", "head_dim")]
    if values[-1] is None and config.get("model_type") != "qwen3":  # whose default is a number of its own
        hidden, heads = values[1], values[3]
        values[-1] = hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None
    sizes = [value for value in values if type(value) is int and value > 0]
    return _Sizes(*sizes) if len(sizes) == len(values) else None


def _tensors(
    kind: str, sizes: _Sizes, *, attention_bias: bool, mlp_bias: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (sizes.vocabulary, sizes.hidden)
    yield "model.norm.weight", (sizes.hidden,)
    yield "lm_head.weight", (sizes.vocabulary, sizes.hidden)
    queries, keys = sizes.heads * sizes.head, sizes.key_value_heads * sizes.head
    linears = {
        "self_attn.q_proj": (queries, sizes.hidden, attention_bias or kind == "qwen2"),
        "self_attn.k_proj": (keys, sizes.hidden, attention_bias or kind == "qwen2"),
        "self_attn.v_proj": (keys, sizes.hidden, attention_bias or kind == "qwen2"),
        "self_attn.o_proj": (sizes.hidden, queries, attention_bias),
        "mlp.gate_proj": (sizes.inner, sizes.hidden, mlp_bias),
        "mlp.up_proj": (sizes.inner, sizes.hidden, mlp_bias),
        "mlp.down_proj": (sizes.hidden, sizes.inner, mlp_bias),
    }
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}"
        for name, (rows, columns, bias) in linears.items():
            yield f"{prefix}.{name}.weight", (rows, columns)
            if bias:
                yield f"{prefix}.{name}.bias", (rows,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}.{name}.weight", (sizes.hidden,)
        if kind == "qwen3":
            for name in ("self_attn.q_norm", "self_attn.k_norm"):
                yield f"{prefix}.{name}.weight", (sizes.head,)


def _built(files: Mapping[str, bytes], skips: tuple[Skip, ...], tensors: int) -> Architecture:
    """Build the model on the meta device and ask it; this loads torch and transformers."""
    from verify.behaviour.loading import empty_model, open_folder  # noqa: PLC0415

    config = open_folder(files).config
    layers = getattr(config, "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > tensors:
        raise _unusable("tensors do not fit the configuration", f"{layers} layers and {tensors} tensors")
    model = empty_model(config)
    try:
        return _surveyed(model, skips)
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise _unusable(
            "what NF4 quantizes of it cannot be told", f"{type(model).__name__}: {str(error)[:200]!a}"
        ) from error


def _surveyed(model: Any, skips: tuple[Skip, ...]) -> Architecture:
    from verify.behaviour.modules import survey  # noqa: PLC0415

    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    quantized = {}
    for skip in skips:
        found = survey(model, skip_modules=skip).quantized
        quantized[skip] = tuple(Quantizable(entry.weight, entry.transposed) for entry in found)
    return Architecture(type(model).__name__, shapes, quantized, _ties(model))


def _ties(model: Any) -> tuple[str, str] | None:
    if not model.config.tie_word_embeddings:
        return None
    embedding = model.get_input_embeddings()
    name = next((name for name, module in model.named_modules() if module is embedding), None)
    if name is None:
        raise LookupError("its embedding is no module of its own")
    return f"{name}.weight", "lm_head.weight"


def _unusable(what: str, found: str) -> ArtefactError:
    expected = "a causal-LM folder of a supported architecture, weights in safetensors, no code"
    return ArtefactError(
        CHECK, f"the model folder cannot be used: {what}", expected=expected, found=found, remedy=_REMEDY
    )
