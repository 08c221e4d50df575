"""Families: anatomy, owned weights, swapping; and the tiny models that the other circuit tests use."""

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from verify.circuits import Pair, describe, owned_slices, patched_metric, swapped
from verify.circuits.circuit import full_circuit
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
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 4}),
}


def tiny(name: str = "llama", seed: int = 0) -> nn.Module:
    """A random model with unequal norms and non-zero biases, so that nothing cancels by accident."""
    build, configure, extra = FAMILIES[name]
    torch.manual_seed(seed)
    model = build(configure(**(SIZES | extra)))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.uniform_(0.6, 1.4)
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
    assert (family.graph.layers, family.graph.heads, family.graph.kv_heads) == (3, 4, 2)
    q = model.get_submodule(family.sites[1].query)
    o = model.get_submodule(family.sites[1].output)
    assert q.weight.shape == (4 * family.head_dim, 32)
    assert o.weight.shape == (32, 4 * family.head_dim)
    assert len(family.graph.writers) == family.graph.n_writers == 1 + 3 * 5
    assert len(family.graph.readers) == family.graph.n_readers == 3 * (4 + 2 + 2 + 1) + 1


def test_unsupported_models_are_refused() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16))
    with pytest.raises(UsageError, match="GPT2LMHeadModel") as caught:
        describe(gpt2)
    assert "LlamaForCausalLM" in caught.value.expected
    packed = tiny()
    packed.model.layers[1].mlp.up_proj.weight = nn.Parameter(
        torch.zeros(640, 1, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(UsageError, match=r"layers\.1\.mlp\.up_proj"):
        describe(packed)


@pytest.mark.parametrize("name", FAMILIES)
def test_owned_slices_partition_the_weights(name: str) -> None:
    model = tiny(name)
    family = describe(model)
    names = [f"a{la}.h{h}" for la in range(3) for h in range(4)] + [f"a{la}.k{k}" for la in range(3) for k in range(2)]
    covered: dict[str, torch.Tensor] = {}
    for node in [*names, *(f"m{la}" for la in range(3))]:
        for module, dim, span in owned_slices(family, node):
            count = covered.setdefault(module, torch.zeros_like(model.get_submodule(module).weight))
            count.narrow(dim, span.start, len(span)).add_(1)
    assert len(covered) == 3 * 7
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


@pytest.mark.parametrize("name", FAMILIES)
def test_zeroing_an_owned_slice_removes_exactly_that_heads_contribution(name: str) -> None:
    model = tiny(name)
    subject = Subject.of(model)

    def written() -> tuple[torch.Tensor, torch.Tensor]:
        with frozen(model), torch.no_grad():
            batch = next(batches(tiny_pairs(1), 1, subject.device))
            prompts = prepare(subject, batch)
            seen, _ = record(subject, prompts, prompts.clean)
            return head_outputs(subject, 1, seen.heads[1]), seen.mlps[1]

    before, _ = written()
    columns = owned_slices(subject.family, "a1.h2")[1]
    with torch.no_grad():
        model.get_submodule(columns.module).weight.narrow(columns.dim, columns.span.start, len(columns.span)).zero_()
    after, _ = written()
    assert float(before[2].abs().max()) > 0.01
    assert float(after[2].abs().max()) == 0
    others = [0, 1, 3]
    assert torch.equal(after[others], before[others])


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


def test_swapped_models_can_be_attributed_and_patched() -> None:
    model, reference = tiny(seed=1), tiny(seed=2)
    pairs = tiny_pairs(3)
    circuit = full_circuit(describe(model).graph)
    with swapped(model, reference, 3):
        lent = patched_metric(model, pairs, circuit)
    assert not torch.allclose(lent, patched_metric(model, pairs, circuit), atol=1e-3)
