"""The check of a description: every family passes, and every wrong description of one is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_circuits_families import FAMILIES, tiny, tiny_pairs
from torch import nn

from verify.circuits import Family, attribute, faithfulness, full_circuit, patched_metric, smallest_faithful
from verify.circuits.families import LayerSites, Rows, describe, registry
from verify.circuits.families.phi3 import describe_phi3
from verify.circuits.invariants import checked
from verify.errors import UndecidedError, UsageError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_as_described(name: str, dtype: torch.dtype) -> None:
    for seed in range(3):
        model = tiny(name, seed).to(dtype)
        before = {key: parameter.clone() for key, parameter in model.named_parameters()}
        assert checked(model).family == describe(model)
        assert all(torch.equal(before[key], parameter) for key, parameter in model.named_parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_as_initialised_pass_too(name: str) -> None:
    build, configure, extra = FAMILIES[name]
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = configure(**(sizes | {"num_key_value_heads": 1, "intermediate_size": 24, "pad_token_id": 0} | extra))
    checked(build(config))


def sites(change: Callable[[LayerSites], LayerSites]) -> Callable[[Family], Family]:
    """The same change of every layer's description."""
    return lambda family: replace(family, sites=tuple(change(site) for site in family.sites))


def exchanged(one: str, other: str) -> Callable[[Family], Family]:
    return sites(lambda site: replace(site, **{one: getattr(site, other), other: getattr(site, one)}))


def blocks(site: LayerSites) -> LayerSites:
    """GPT-NeoX's projection read as Phi-3's: all queries, all keys, all values."""

    def block(index: int) -> Rows:
        size = site.query.size
        return Rows(site.query.module, size, size, start=index * 4 * size)

    return replace(site, query=block(0), key=block(1), value=block(2))


def interleaved(site: LayerSites) -> LayerSites:
    size = site.query.size
    rows = [Rows(site.query.module, size, 3 * size, start=index * size) for index in range(3)]
    return replace(site, query=rows[0], key=rows[1], value=rows[2])


WRONG: dict[str, tuple[str, Callable[[Family], Family], str]] = {
    "interleaved heads taken for blocks": ("gpt-neox", sites(blocks), "moves more than its own"),
    "blocks taken for interleaved heads": ("gpt2", sites(interleaved), "moves more than its own"),
    "query and key exchanged": ("gpt2", exchanged("query", "key"), "moves"),
    "key and value exchanged": ("qwen2", exchanged("key", "value"), "moves"),
    "query and value exchanged": ("gpt-neox", exchanged("query", "value"), "moves"),
    "neurons of another row": (
        "phi3",
        sites(lambda site: replace(site, inner=(replace(site.inner[0], start=1), site.inner[1]))),
        "moves more than its own",
    ),
    "a serial layer taken for a parallel one": (
        "gpt-neox-serial",
        lambda family: replace(family, graph=replace(family.graph, parallel=True)),
        "reads more or less",
    ),
    "a parallel layer taken for a serial one": (
        "gpt-neox",
        lambda family: replace(family, graph=replace(family.graph, parallel=False)),
        "reads more or less",
    ),
    "post-norms overlooked": (
        "gemma2",
        sites(lambda site: replace(site, attention_post=None, mlp_post=None)),
        "reads more or less",
    ),
    "another eps": (
        "llama",
        sites(lambda site: replace(site, mlp_norm=replace(site.mlp_norm, eps=0.5))),
        "another norm",
    ),
    "a gain of weight for 1 + weight": (
        "gemma3",
        sites(lambda site: replace(site, attention_norm=replace(site.attention_norm, shift=0.0))),
        "another norm",
    ),
    "a LayerNorm taken for an RMS norm": (
        "gpt2",
        lambda family: replace(family, final_norm=replace(family.final_norm, centred=False)),
        "another norm",
    ),
    "the wrong MLP": (
        "mistral",
        lambda family: replace(family, sites=(replace(family.sites[0], mlp=family.sites[1].mlp), *family.sites[1:])),
        "reads more or less",
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_description_is_refused(case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change, message = WRONG[case]
    model = tiny(name).to(dtype)
    right = describe(model)
    monkeypatch.setitem(registry.FAMILIES, type(model).__name__, lambda _: change(right))
    with pytest.raises(UsageError, match=message) as caught:
        checked(model)
    assert caught.value.id == "ME260"
    with pytest.raises(UsageError, match="does not fit this model"):
        attribute(model, tiny_pairs(1))
    with pytest.raises(UsageError, match="does not fit this model"):
        patched_metric(model, tiny_pairs(1), full_circuit(right.graph))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_scales_its_branches_is_refused() -> None:
    """As Granite does: the writers are where the description says, but the stream receives something else."""
    model = tiny("llama")
    wanted = model.model.layers[1].self_attn
    inner = wanted.forward
    wanted.forward = lambda *args, **rest: (0.5 * (result := inner(*args, **rest))[0], *result[1:])
    with pytest.raises(UsageError, match="reads more or less") as caught:
        attribute(model, tiny_pairs(1))
    assert caught.value.id == "ME260"


def test_numbers_that_are_not_finite_are_no_evidence() -> None:
    model = tiny("phi3")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(UndecidedError):
        checked(model)


def test_phi3_is_described_by_name_alone() -> None:
    with torch.device("meta"):
        model = FAMILIES["phi3"][0](FAMILIES["phi3"][1](hidden_size=32, num_attention_heads=4, pad_token_id=0))
    assert describe_phi3(model).graph.heads == 4


def no_number(model: nn.Module) -> None:
    """Through `.data`, which leaves the version of the parameter as it was."""
    weight = model.model.layers[1].mlp.down_proj.weight
    version = weight._version
    weight.data[0, 0] = float("nan")
    assert weight._version == version


def replaced_module(model: nn.Module) -> None:
    """A norm that takes the mean off, where the description says it does not."""
    model.model.layers[1].input_layernorm = nn.LayerNorm(model.config.hidden_size)


def hook_on_the_layer(model: nn.Module) -> None:
    model.model.layers[1].register_forward_hook(lambda _, __, output: 0.5 * output)


def replaced_forward(model: nn.Module) -> None:
    attention = model.model.layers[1].self_attn
    inner = attention.forward
    attention.forward = lambda *args, **rest: (0.5 * (result := inner(*args, **rest))[0], *result[1:])


def other_eps(model: nn.Module) -> None:
    model.model.layers[1].input_layernorm.variance_epsilon = 0.5


@pytest.mark.parametrize(
    "edit", [no_number, replaced_module, hook_on_the_layer, replaced_forward, other_eps], ids=lambda edit: edit.__name__
)
def test_a_model_is_checked_anew_at_every_call(edit: Callable[[nn.Module], None]) -> None:
    model, pairs = tiny("llama"), tiny_pairs(1)
    scores = attribute(model, pairs, points=1)
    edit(model)
    for again in (
        lambda: attribute(model, pairs, points=1),
        lambda: faithfulness(model, pairs, full_circuit(scores.graph)),
        lambda: scores.run(full_circuit(scores.graph)),
    ):
        with pytest.raises((UsageError, UndecidedError)):
            again()


def test_a_subject_stands_for_a_model_that_was_checked() -> None:
    model, pairs = tiny("gpt2"), tiny_pairs(3)
    subject, whole = checked(model), full_circuit(describe(model).graph)
    found = attribute(subject, pairs, points=1)
    assert torch.equal(found.scores, attribute(model, pairs, points=1).scores)
    assert faithfulness(subject, pairs, whole) == pytest.approx(1, abs=1e-4)
    assert torch.equal(patched_metric(subject, pairs, whole), patched_metric(model, pairs, whole))
    other_circuit = smallest_faithful(subject, found, pairs, target=0.5)
    assert torch.equal(other_circuit.circuit.edges, smallest_faithful(model, found, pairs, target=0.5).circuit.edges)
