"""The families written down are, tensor by tensor, what transformers builds; everything odd is left to transformers."""

import json

import pytest
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from verify.behaviour.loading import empty_model
from verify.behaviour.modules import survey
from verify.checks import architecture as a
from verify.errors import ArtefactError

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
CONFIGS: list[PreTrainedConfig] = [
    *(
        LlamaConfig(**SIZES, tie_word_embeddings=tied, attention_bias=bias, mlp_bias=not bias)
        for tied in (True, False)
        for bias in (True, False)
    ),
    LlamaConfig(**SIZES, head_dim=24, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
    MistralConfig(**SIZES),
    MistralConfig(**SIZES, head_dim=32, sliding_window=8),
    Qwen2Config(**SIZES),
    Qwen2Config(**SIZES, tie_word_embeddings=True, use_sliding_window=True, max_window_layers=1),
    Qwen3Config(**SIZES, head_dim=32),
    Qwen3Config(**SIZES, head_dim=32, attention_bias=True, tie_word_embeddings=True),
]


def written(config: PreTrainedConfig) -> dict[str, object]:
    """Return config.json as it is saved with a model."""
    made = config.__class__(**config.to_diff_dict())
    made.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__]
    return json.loads(made.to_json_string())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_the_fast_way_agrees_with_transformers(config: PreTrainedConfig) -> None:
    found = a._llama_like(written(config) | {name: getattr(config, name) for name in SIZES})
    assert found is not None, "the fast way must cover what save_pretrained writes"
    model = empty_model(config)
    assert found.name == type(model).__name__
    assert found.shapes == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {entry.name for entry in found.quantized[None]} == {entry.weight for entry in survey(model).quantized}
    assert found.tied == a._ties(model)
    assert not found.transposed()


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gpt2"},
        {"hidden_act": "os.system"},
        {"rope_scaling": "x"},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"rope_parameters": {"rope_type": "linear", "factor": "x"}},
        {"head_dim": 0},
        {"hidden_size": -1},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 1.5},
        {"vocab_size": True},
        {"attention_bias": "yes"},
        {"something_new": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_odd_is_not_decided_the_fast_way(change: dict[str, object]) -> None:
    config = written(CONFIGS[0]) | SIZES
    assert a._llama_like(config) is not None
    assert a._llama_like(config | change) is None


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"model_type": "bart", "decoder_layers": 10**9},
        {"model_type": "gemma3", "text_config": {"num_hidden_layers": 10**9}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_more_layers_than_tensors_are_refused_before_any_are_made(change: dict[str, object]) -> None:
    data = json.dumps(written(CONFIGS[0]) | change).encode()
    with pytest.raises(ArtefactError) as caught:
        a.architecture({a.CONFIG: data}, [None], tensors=20)
    assert caught.value.id == "MV106"


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"model_type":"llama","model_type":"llama"}'])
def test_a_configuration_has_one_reading(data: bytes) -> None:
    with pytest.raises(ArtefactError) as caught:
        a.architecture({a.CONFIG: data}, [None], tensors=20)
    assert caught.value.id == "MV106"


def test_skip_lists_are_each_answered() -> None:
    model = empty_model(CONFIGS[0])
    files = {a.CONFIG: json.dumps(written(CONFIGS[0]) | SIZES).encode()}
    assert len(a.architecture(files, [None], tensors=99).quantized[None]) == len(survey(model).quantized)
    with pytest.raises(ArtefactError, match="tokenizer"):  # transformers is asked, and needs the whole folder
        a.architecture(files, [None, ("q_proj",)], tensors=99)
