"""Families: anatomy, owned weights, swapping; and the tiny models that the other circuit tests use."""

import re

import pytest
import torch
from torch import nn
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from verify.behaviour.modules import nf4_linears
from verify.circuits import Family, OwnedSlice, Pair, describe, owned_slices, patched_metric, swapped
from verify.circuits.circuit import full_circuit
from verify.circuits.families import matrix
from verify.circuits.pairs import batches
from verify.circuits.running import Subject, frozen, head_outputs, prepare, record
from verify.errors import UsageError

torch.set_num_threads(1)

VOCABULARY = 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GEMMA = {
    "head_dim": 12,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 4}),
    "phi3": (Phi3ForCausalLM, Phi3Config, {"pad_token_id": 0}),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig, {}),
    "gpt-neox-serial": (GPTNeoXForCausalLM, GPTNeoXConfig, {"use_parallel_residual": False}),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_inner": 40}),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral-all": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 2, "num_experts_per_tok": 2}),
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        GEMMA | {"final_logit_softcapping": 9.0, "attn_logit_softcapping": 3.0},
    ),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, GEMMA),
}
SMOOTH = [name for name in FAMILIES if name != "mixtral"]
"""The families whose metric has no jumps: where a router turns to another expert, no gradient sees it."""
NEURAL = [name for name in FAMILIES if not name.startswith("mixtral")]
"""The families whose MLPs are made of neurons."""


def tiny(name: str = "llama", seed: int = 0) -> nn.Module:
    """A random model with unequal norms and non-zero biases, so that nothing cancels by accident."""
    build, configure, extra = FAMILIES[name]
    torch.manual_seed(seed)
    model = build(configure(**(SIZES | extra)))
    norms = {
        parameter for module in model.modules() if "Norm" in type(module).__name__ for parameter in [module.weight]
    }
    gain = 0.0 if name.startswith("gemma") else 1.0
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter in norms:
                parameter.uniform_(gain - 0.4, gain + 0.4)
            elif key.endswith("bias"):
                parameter.normal_(0, 0.2)
            else:
                parameter.normal_(0, 0.25)
    return model.eval()


def tiny_pairs(count: int = 5, seed: int = 0) -> list[Pair]:
    """Pairs of two lengths and several first differences, with one to three alternatives."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(count):
        length = 6 if index % 2 else 8
        clean = torch.randint(VOCABULARY, (length,), generator=generator)
        corrupt = clean.clone()
        start = index % 4
        corrupt[start : start + 2] = (clean[start : start + 2] + 7) % VOCABULARY
        answer = int(torch.randint(10, (1,), generator=generator))
        alternatives = tuple(range(answer + 1, answer + 2 + index % 3))
        pairs.append(Pair(tuple(clean.tolist()), tuple(corrupt.tolist()), answer, alternatives))
    return pairs


@pytest.mark.parametrize("name", FAMILIES)
def test_describe_names_real_modules_and_weights(name: str) -> None:
    model = tiny(name)
    family = describe(model)
    kv_heads = 4 if name.startswith("gpt") else 2
    assert (family.graph.layers, family.graph.heads, family.graph.kv_heads) == (3, 4, kv_heads)
    site = family.sites[1]
    assert site.query.weights(matrix(model, site.query.module), 4).shape == (4, family.head_dim, 32)
    assert matrix(model, site.output).shape == (32, 4 * family.head_dim)
    assert len(family.graph.writers) == family.graph.n_writers == 1 + 3 * 5
    assert len(family.graph.readers) == family.graph.n_readers == 3 * (4 + 2 * kv_heads + 1) + 1


def test_unsupported_models_are_refused() -> None:
    falcon = FalconForCausalLM(FalconConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(UsageError, match="FalconForCausalLM") as caught:
        describe(falcon)
    assert "LlamaForCausalLM" in caught.value.expected
    packed = tiny()
    packed.model.layers[1].mlp.up_proj.weight = nn.Parameter(
        torch.zeros(640, 1, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(UsageError, match=r"layers\.1\.mlp\.up_proj"):
        describe(packed)


def all_nodes(family: Family) -> list[str]:
    graph = family.graph
    heads = [f"a{la}.h{h}" for la in range(graph.layers) for h in range(graph.heads)]
    return [
        *heads,
        *(f"a{la}.k{k}" for la in range(graph.layers) for k in range(graph.kv_heads)),
        *(f"m{la}" for la in range(graph.layers)),
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_owned_slices_partition_the_weights(name: str) -> None:
    model = tiny(name)
    family = describe(model)
    covered: dict[str, torch.Tensor] = {}
    for node in all_nodes(family):
        for module, dim, span, parameter in owned_slices(family, node):
            weight = getattr(model.get_submodule(module), parameter)
            count = covered.setdefault(f"{module}.{parameter}", torch.zeros_like(weight))
            count.narrow(dim, span.start, len(span)).add_(1)
    every = {
        key
        for key, parameter in model.named_parameters()
        if parameter.dim() > 1 and not re.search(r"lm_head|embed|wte|wpe|mlp\.gate\.", key)
    }
    assert set(covered) == every
    assert all(bool((count == 1).all()) for count in covered.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_own_what_nf4_quantizes(name: str) -> None:
    model = tiny(name)
    assert {module for site in describe(model).sites for module in site.linears} == set(nf4_linears(model))


@pytest.mark.parametrize("name", NEURAL)
def test_neurons_partition_their_mlp(name: str) -> None:
    model = tiny(name)
    family = describe(model)
    covered = {
        owned.module: torch.zeros_like(model.get_submodule(owned.module).weight) for owned in owned_slices(family, "m1")
    }
    for neuron in range(family.d_ff):
        for module, dim, span, _ in owned_slices(family, f"m1.n{neuron}"):
            covered[module].narrow(dim, span.start, len(span)).add_(1)
    assert all(bool((count == 1).all()) for count in covered.values())


def test_one_neuron_owns_a_row_and_a_column() -> None:
    slices = owned_slices(describe(tiny()), "m2.n39")
    assert [(s.module.rsplit(".", 1)[1], s.dim, s.span) for s in slices] == [
        ("gate_proj", 0, range(39, 40)),
        ("up_proj", 0, range(39, 40)),
        ("down_proj", 1, range(39, 40)),
    ]
    assert owned_slices(describe(tiny()), "input") == ()


@pytest.mark.parametrize("node", ["a3.h0", "a0.h4", "a0.k2", "m3", "m0.n40", "b0.h1", "a0", "", "m-1"])
def test_unknown_nodes_are_refused(node: str) -> None:
    with pytest.raises(UsageError, match="has no node"):
        owned_slices(describe(tiny()), node)


def held(model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What layer 1 of the model holds on one prompt: inputs of its output projection, and all that it writes."""
    subject = Subject.of(model)
    with frozen(model), torch.no_grad():
        batch = next(batches(tiny_pairs(1), 1, subject.device))
        prompts = prepare(subject, batch)
        seen, _ = record(subject, prompts, prompts.clean)
        return seen.heads[1], [*head_outputs(subject, 1, seen.heads[1]), seen.mlps[1]]


def zero(model: nn.Module, owned: OwnedSlice) -> None:
    with torch.no_grad():
        weight = getattr(model.get_submodule(owned.module), owned.parameter)
        weight.narrow(owned.dim, owned.span.start, len(owned.span)).zero_()


@pytest.mark.parametrize("name", FAMILIES)
def test_zeroing_a_heads_columns_removes_exactly_its_contribution(name: str) -> None:
    model = tiny(name)
    _, before = held(model)
    zero(model, owned_slices(describe(model), "a1.h2")[1])
    _, after = held(model)
    assert float(before[2].abs().max()) > 0.01
    assert float(after[2].abs().max()) == 0
    assert all(torch.equal(after[other], before[other]) for other in (0, 1, 3))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("node", "slices"), [("a1.h2", [0]), ("a1.k1", [0]), ("a1.k1", [1])])
def test_zeroing_rows_moves_exactly_the_heads_that_read_them(name: str, node: str, slices: list[int]) -> None:
    model = tiny(name)
    family = describe(model)
    before, _ = held(model)
    for index in slices:
        zero(model, owned_slices(family, node)[index])
    after, _ = held(model)
    moved = (after - before).unflatten(-1, (4, -1)).abs().amax((0, 1, 3)) > 1e-6
    first = 2 if node == "a1.h2" else family.graph.group
    count = 1 if node == "a1.h2" else family.graph.group
    assert moved.nonzero().flatten().tolist() == list(range(first, first + count))


@pytest.mark.parametrize("name", FAMILIES)
def test_zeroing_an_mlp_silences_it(name: str) -> None:
    model = tiny(name)
    family = describe(model)
    assert float(held(model)[1][4].abs().max()) > 0.01
    for owned in owned_slices(family, "m1"):
        zero(model, owned)
    written = held(model)[1][4]
    assert float((written - written[:, :1]).abs().max()) == 0  # at most a bias is left


def test_swapped_lends_modules_and_puts_them_back() -> None:
    model, reference = tiny(seed=1), tiny(seed=2)
    own = dict(model.named_modules())
    ids = torch.arange(7)[None]
    with torch.no_grad():
        alone = model(ids).logits
        expected = reference(inputs_embeds=model.get_input_embeddings()(ids)).logits
        with swapped(model, reference, 0):
            assert torch.equal(model(ids).logits, expected)
        with swapped(model, reference, 2):
            assert model.model.layers[1] is own["model.layers.1"]
            assert model.model.layers[2] is reference.model.layers[2]
        with swapped(model, reference, 3):
            assert model.lm_head is reference.lm_head
            assert model.model.layers[2] is own["model.layers.2"]
        with pytest.raises(IndexError), swapped(model, reference, 3):
            model(ids + 10 * VOCABULARY)
        assert torch.equal(model(ids).logits, alone)
    assert dict(model.named_modules()) == own
    with pytest.raises(UsageError), swapped(model, reference, 4):
        pass
    with pytest.raises(UsageError), swapped(model, tiny("qwen2"), 1):
        pass


@pytest.mark.parametrize("name", FAMILIES)
def test_swapped_models_can_be_attributed_and_patched(name: str) -> None:
    model, reference = tiny(name, seed=1), tiny(name, seed=2)
    pairs = tiny_pairs(3)
    circuit = full_circuit(describe(model).graph)
    with swapped(model, reference, 3):
        lent = patched_metric(model, pairs, circuit)
    assert not torch.allclose(lent, patched_metric(model, pairs, circuit), atol=1e-3)
