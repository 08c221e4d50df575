"""Every quantizer against its library, or against bytes of the reference, and within its format's error bound."""

import hashlib
import sys

import bitsandbytes as bnb
import certificates as c
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mansu.bench.quantizers import FORMATS, QUANTIZERS, find, quantized
from mansu.bench.quantizers.apply import distinct_values
from mansu.bench.quantizers.bnb import fp4, int8, int8_linear, nf4
from mansu.bench.quantizers.ggml import BLOCKS, decode, encode, ggml
from mansu.bench.quantizers.llama_cpp import FileType, tensor_types
from mansu.bench.quantizers.registry import Format
from verify.behaviour.loading import Language, variant
from verify.errors import UsageError

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=15, deadline=None)


def gaussian(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05).to(dtype)


def uneven(seed: int, columns: int = 256) -> Tensor:
    """Rows of very different sizes, with zeros, constants and outliers among them."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, columns, generator=generator) * 10 ** (torch.rand(4, 1, generator=generator) * 6 - 4)
    weight[0, :64] = 0
    weight[1, 64:128] = weight[1, 64]
    weight[2, int(torch.randint(columns, (1,), generator=generator))] *= 50
    return weight


def language(model: LlamaForCausalLM) -> Language:
    return variant(Language(model.float().eval(), c.tokenizer()), {})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("double", [False, True])
def test_nf4_is_that_of_bitsandbytes(dtype: torch.dtype, double: bool) -> None:
    weight = gaussian(48, 576, dtype=dtype)
    packed, state = bnb.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=double)
    assert torch.equal(nf4(weight, double=double), bnb.functional.dequantize_4bit(packed, state).float())


def test_fp4_takes_the_nearest_of_its_levels() -> None:
    weight = gaussian(32, 128, dtype=torch.float32)
    absmax = weight.reshape(-1, 64).abs().amax(1, keepdim=True)
    levels = torch.tensor([0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1])
    levels = torch.cat([-levels, levels])
    x = weight.reshape(-1, 64) / absmax
    nearest = levels[(x[..., None] - levels).abs().argmin(-1)] * absmax
    torch.testing.assert_close(fp4(weight), nearest.reshape(weight.shape), rtol=1e-5, atol=1e-7)


def test_int8_is_one_scale_a_row() -> None:
    weight = gaussian(16, 96)
    scale = weight.half().abs().amax(1, keepdim=True).float() / 127
    assert ((int8(weight) - weight.float()).abs() <= scale * 0.501 + 1e-6).all()
    codes = int8(weight) / scale
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)


def test_the_8_bit_layer_rounds_its_inputs_too_and_keeps_outliers_apart() -> None:
    weight, bias = gaussian(16, 96, dtype=torch.float32), gaussian(1, 16, 1, torch.float32)[0]
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(2))
    x[0, 3] = 40.0
    layer = int8_linear(weight, bias)
    whole = torch.nn.functional.linear(x, int8(weight), bias)
    with torch.no_grad():
        got = layer(x)
    assert layer.weight.dtype == torch.int8
    assert not torch.equal(got, whole)
    # half a step of the inputs in every term; without the outlier apart its row's steps would be ten times as wide
    step = x.abs().where(x.abs() < 6, torch.tensor(0.0)).amax(1, keepdim=True) / 127
    bound = step / 2 * int8(weight).abs().sum(1) + 2e-2 * whole.abs().clamp(min=0.1)
    assert ((got - whole).abs() <= bound).all()


# Bytes of ggml's quantize_row_*_ref: a C transcription of it, gcc -O2 -ffp-contract=off, on the same values.
GOLDEN = {
    "Q4_K": "f1c08b2c8b2fee59f32ae765f5d71983479f1a37ee655dd97d8be486c34778be",
    "Q5_K": "999cfa920c755455bde1563480b7bdbdebd8afe330eea237738ed4b0121d0157",
    "Q6_K": "f9a288594919acbd43de1d40490d918a4cd085017b18ad2077fd3f0b4e6463fd",
}


def reference_values() -> np.ndarray:
    """8 rows of 512: sizes from 1e-3 to 1, one row of zeros, one of a constant, and one all positive."""
    values = np.random.default_rng(2026).standard_normal((8, 512)).astype(np.float32)
    values *= np.float32(10) ** np.linspace(-3, 0, 8, dtype=np.float32)[:, None]
    values[5], values[6, :256], values[7] = 0, 0.25, np.abs(values[7])
    return values


@pytest.mark.parametrize("kind", GOLDEN)
def test_k_quants_are_the_bytes_of_the_reference(kind: str) -> None:
    packed = encode(torch.from_numpy(reference_values()), kind)
    assert hashlib.sha256(packed.tobytes()).hexdigest() == GOLDEN[kind]


@FEW
@given(seed=SEEDS, kind=st.sampled_from(sorted(BLOCKS)))
def test_gguf_formats_stay_within_their_error(seed: int, kind: str) -> None:
    weight = uneven(seed)
    block = BLOCKS[kind]
    blocks, result = weight.reshape(-1, block), ggml(weight, kind).reshape(-1, block)
    span = blocks.amax(1, keepdim=True).clamp(min=0) - blocks.amin(1, keepdim=True).clamp(max=0)
    widest = torch.maximum(span, 2 * blocks.abs().amax(1, keepdim=True))
    steps = {"Q4_0": 15, "Q5_0": 31, "Q5_1": 31, "Q8_0": 254, "Q4_K": 15, "Q5_K": 31, "Q6_K": 63}[kind]
    # the fit of K-quants may give up a step or two at the ends for the middle
    allowed = widest / steps * (2.0 if kind.endswith("K") else 1.1)
    assert ((result - blocks).abs() <= allowed + 1e-6).all()


@FEW
@given(seed=SEEDS, kind=st.sampled_from(["Q4_0", "Q5_0", "Q8_0"]))
def test_symmetric_gguf_formats_change_nothing_twice(seed: int, kind: str) -> None:
    once = ggml(gaussian(4, 256, seed, torch.float32), kind)
    torch.testing.assert_close(ggml(once, kind), once, rtol=1e-3, atol=0)


@FEW
@given(seed=SEEDS, kind=st.sampled_from(["NF4", "FP4", "int8"]))
def test_absmax_formats_change_nothing_twice(seed: int, kind: str) -> None:
    once = FORMATS[kind].decode(gaussian(4, 256, seed, torch.float32))
    torch.testing.assert_close(FORMATS[kind].decode(once), once, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_what_is_packed_is_what_is_decoded(kind: str) -> None:
    weight = gaussian(3, 512)
    packed = encode(weight, kind)
    assert packed.dtype == np.uint8
    assert torch.equal(decode(packed, kind), ggml(weight, kind))
    assert distinct_values(ggml(weight, kind), FORMATS[kind]) <= FORMATS[kind].levels


BYTES = {"Q4_0": 18, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}


def smollm2() -> dict[str, tuple[int, int]]:
    """Rows and columns of SmolLM2-135M's matrices, the tied head left out."""
    shapes = {"model.embed_tokens.weight": (49152, 576)}
    inner = {"self_attn.q": (576, 576), "self_attn.k": (192, 576), "self_attn.v": (192, 576), "self_attn.o": (576, 576)}
    inner |= {"mlp.gate": (1536, 576), "mlp.up": (1536, 576), "mlp.down": (576, 1536)}
    return shapes | {f"model.layers.{i}.{name}_proj.weight": shape for i in range(30) for name, shape in inner.items()}


def types_of(file_type: FileType) -> dict[str, str]:
    columns = {name: shape[1] for name, shape in smollm2().items()}
    return tensor_types(
        file_type, columns, output="lm_head.weight", embedding="model.embed_tokens.weight", tied=True, layers=30
    )


def test_q4_k_m_of_smollm2_is_the_file_that_llama_quantize_reports() -> None:
    """`quant size = 98.87 MiB`, 180 tensors with a fallback: a published log of llama-quantize on this model."""
    types = types_of(FileType.Q4_K_M)
    size = sum(smollm2()[name][0] * smollm2()[name][1] // BLOCKS[kind] * BYTES[kind] for name, kind in types.items())
    size += 61 * 576 * 4  # norms, float32
    assert round(size / 2**20, 2) == 98.87
    assert sum(kind in {"Q5_0", "Q5_1", "Q8_0"} for name, kind in types.items() if "layers" in name) == 180
    assert types["model.embed_tokens.weight"] == "Q8_0"
    assert types["model.layers.0.self_attn.v_proj.weight"] == "Q8_0"
    assert types["model.layers.0.mlp.down_proj.weight"] == "Q6_K"
    assert types["model.layers.3.mlp.down_proj.weight"] == "Q4_K"


def test_the_other_file_types_of_smollm2() -> None:
    q4_0, small = types_of(FileType.Q4_0), types_of(FileType.Q4_K_S)
    assert q4_0.pop("model.embed_tokens.weight") == "Q8_0"
    assert set(q4_0.values()) == {"Q4_0"}
    assert set(types_of(FileType.Q8_0).values()) == {"Q8_0"}
    assert small["model.layers.3.self_attn.v_proj.weight"] == "Q5_1"
    assert small["model.layers.4.self_attn.v_proj.weight"] == "Q5_0"
    assert small["model.layers.2.mlp.down_proj.weight"] == "Q5_K"
    assert small["model.layers.3.mlp.down_proj.weight"] == "Q4_K"


def test_an_untied_head_gets_more_bits_than_the_embedding() -> None:
    columns = {"lm_head.weight": 512, "model.embed_tokens.weight": 512, "model.layers.0.self_attn.qkv_proj.weight": 512}
    types = tensor_types(
        FileType.Q4_K_M, columns, output="lm_head.weight", embedding="model.embed_tokens.weight", tied=False, layers=1
    )
    assert list(types.values()) == ["Q6_K", "Q4_K", "Q5_K"]


def test_rows_that_are_no_multiple_of_32() -> None:
    odd = {"model.layers.0.mlp.up_proj.weight": 80}
    types = tensor_types(FileType.Q4_K_M, odd, output="lm_head.weight", embedding="e", tied=True, layers=1)
    assert list(types.values()) == ["F16"]
    with pytest.raises(UsageError, match="Q4_0") as refused:
        tensor_types(FileType.Q4_0, odd, output="lm_head.weight", embedding="e", tied=True, layers=1)
    assert refused.value.id == "ME363"


@pytest.mark.parametrize("group", [64, 128])
def test_torchao_int4_is_its_own_layer(group: int) -> None:
    prototype = pytest.importorskip("torchao.prototype.quantization.int4", reason="torchao is not installed")
    from torchao.quantization import quantize_

    weight = gaussian(32, 256)
    layer = torch.nn.Linear(256, 32, bias=False, dtype=torch.bfloat16)
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    model = torch.nn.Sequential(layer)
    quantize_(model, prototype.PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False))
    kind = FORMATS[f"torchao int4 / {group}"]
    result = kind.decode(weight)
    x = torch.randn(7, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    torch.testing.assert_close(model(x).float(), x.float() @ result.T, rtol=2e-2, atol=2e-2)
    assert distinct_values(result, kind) <= 16
    groups = weight.float().reshape(-1, group)
    step = (groups.amax(1, keepdim=True) - groups.amin(1, keepdim=True)) / 15
    error = (result.reshape(-1, group) - groups).abs()
    # half a step, and the rounding of scale and zero point to bfloat16
    assert (error <= 0.5 * step + groups.abs().amax(1, keepdim=True) * 2**-6).all()


def test_hqq_has_sixteen_values_a_group_and_little_error() -> None:
    pytest.importorskip("hqq.core.quantize", reason="hqq is not installed")
    weight = gaussian(32, 256)
    kind = FORMATS["HQQ 4 bit / 64"]
    result = kind.decode(weight)
    assert distinct_values(result, kind) <= 16
    assert float((result - weight.float()).std() / weight.float().std()) < 0.15


def test_distinct_values_are_counted_block_by_block() -> None:
    weight = torch.arange(64.0).reshape(2, 32) // 4
    assert distinct_values(weight, Format(lambda w: w, 8, 2)) == 2
    assert distinct_values(weight, Format(lambda w: w, None, 8)) == 8


MODEL_WIDE = ("nf4", "nf4-double", "fp4", "int8", "gguf-q4_0", "gguf-q4_k_s", "gguf-q4_k_m", "gguf-q8_0")


@pytest.mark.parametrize("name", MODEL_WIDE)
def test_a_quantized_model_computes_with_the_quantized_weights(name: str) -> None:
    base = language(c.random_model())
    before = {key: value.clone() for key, value in base.model.state_dict().items()}
    deployed = quantized(base, name, torch.bfloat16)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        change = (deployed.language.model(ids).logits - base.model(ids).logits).abs().max()
    assert change > 0
    assert all(torch.equal(before[key], value) for key, value in base.model.state_dict().items())
    assert sum(proof.values for proof in deployed.proofs) == sum(weight.numel() for weight in deployed.weights.values())
    assert all(0 < proof.changed <= proof.values and proof.distinct <= proof.levels for proof in deployed.proofs)
    embedding = "model.embed_tokens.weight"
    assert (embedding in deployed.weights) == name.startswith("gguf")
    tied = deployed.language.model.get_output_embeddings().weight
    assert torch.equal(tied, deployed.weights.get(embedding, before[embedding]))


def test_int8_runs_the_library_s_layers() -> None:
    deployed = quantized(language(c.random_model()), "int8", torch.bfloat16)
    kinds = {type(module) for name, module in deployed.language.model.named_modules() if name.endswith("_proj")}
    assert kinds == {bnb.nn.Linear8bitLt}


def test_torchao_leaves_rows_that_are_not_whole_groups() -> None:
    plan = find("torchao-int4").plan(c.random_model())
    assert {planned.module.name.rpartition(".")[2] for planned in plan} == {"down_proj"}


def test_an_untied_model_quantizes_its_head_too() -> None:
    config = LlamaConfig(
        vocab_size=len(c.tokenizer()), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4
    )
    deployed = quantized(language(LlamaForCausalLM(config)), "gguf-q4_0", torch.bfloat16)
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= deployed.weights.keys()


def test_a_model_that_is_quantized_already_is_refused() -> None:
    once = quantized(language(c.random_model()), "gguf-q4_0", torch.float32)
    with pytest.raises(UsageError, match="applied") as refused:
        quantized(once.language, "gguf-q4_0", torch.float32)
    assert refused.value.id == "ME362"


def test_an_unknown_quantizer_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="not known") as refused:
        find("q4")
    assert refused.value.id == "ME361"
    assert all(name in refused.value.expected for name in QUANTIZERS)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hqq.core.quantize", None)
    with pytest.raises(UsageError, match="not installed") as refused:
        FORMATS["HQQ 4 bit / 64"].decode(gaussian(2, 64))
    assert refused.value.id == "ME360"
    assert "hqq" in refused.value.remedy
