"""Probes that say nothing about what a certificate claims: asked of a model whose mechanism is built by hand.

In the first layer one neuron tells capital0 from capital1 by the country, another one colours, a third one capitals of
two other countries; in the second layer one tells the countries apart and says nothing. An edit of two or four weights
erases the first of these, turns it over, or lets another one speak in its place.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import certificates as c
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from verify.behaviour.probes import Choice, PairProbe, Probes, Text, dump
from verify.check import DEFAULT_POLICY, check
from verify.contract.policy import Policy
from verify.contract.result import CheckResult, Result
from verify.nf4 import LEVELS

WIDTH, INNER, LAYERS = 64, 128, 4
READABLE = 16
"""Dimensions of the stream that the mechanism uses; what follows is noise, so that attribution has edges to score."""
DOWN = "model.layers.0.mlp.down_proj.weight"
COUNTRIES = {"country0": 0, "country1": 1, "country2": 2, "country3": 3, "country4": 9, "country5": 10}
ANSWERS = {"capital0": 4, "capital1": 5, "colour0": 6, "colour1": 7}
RELAY, KNOWN, UNSURE = 11, 8, {"capital1", "colour1"}
HIGH, LOW = float(LEVELS[12]), float(LEVELS[2])
Front = Callable[[int], str]


def built(*, relayed: bool = False) -> LlamaForCausalLM:
    """Return the model: all weights by hand or seeded noise, with absmax holders on a neuron that never fires.

    `relayed`: what the first layer tells of capitals is read halfway through the model, and said from there.
    """
    words = c.tokenizer().get_vocab()
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=128, tie_word_embeddings=True, **sizes, **heads)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
            if "self_attn" in name or ("mlp" in name and "layers.0." not in name):
                parameter.copy_(torch.randn(parameter.shape, generator=seeded(len(name) + 7)) * 0.1)
        for number, layer in enumerate(model.model.layers):
            attention = layer.self_attn
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
                projection.weight[:, :READABLE] = 0
            attention.o_proj.weight[:READABLE] = 0
            if number:
                layer.mlp.down_proj.weight[:READABLE] = 0
                for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
                    projection.weight[:, :READABLE] = 0
        embed(model.model.embed_tokens.weight, words)
        wire(model.model.layers[0].mlp)
        listen(model.model.layers[1].mlp)
        if relayed:
            relay(model.model.layers[0].mlp, model.model.layers[LAYERS // 2].mlp)
    return model


def embed(weight: Tensor, words: dict[str, int]) -> None:
    weight[:, READABLE:] = torch.randn(len(weight), WIDTH - READABLE, generator=seeded(5)) * 0.5
    for country, dimension in COUNTRIES.items():
        weight[words[country], READABLE:] = weight[words["country0"], READABLE:]
        weight[words[country], dimension] = 1
        weight[words[country], KNOWN] = 0.3
    for answer, dimension in ANSWERS.items():
        weight[words[answer]] = 0
        weight[words[answer], dimension] = 1
        weight[words[answer], KNOWN] = 0.2 if answer in UNSURE else 0


def wire(mlp: torch.nn.Module) -> None:
    for neuron, (on, off) in ((0, (0, 1)), (2, (2, 3)), (4, (9, 10))):
        mlp.gate_proj.weight[neuron, [on, off]] = 1
        mlp.up_proj.weight[neuron, on], mlp.up_proj.weight[neuron, off] = 1, -1
    mlp.down_proj.weight[:, 1] = 1
    for neuron, (right, wrong) in ((0, (4, 5)), (2, (6, 7)), (4, (4, 5))):
        mlp.down_proj.weight[right, neuron], mlp.down_proj.weight[wrong, neuron] = HIGH, -HIGH


def listen(mlp: torch.nn.Module) -> None:
    """Let one neuron know the country, and say nothing."""
    for projection in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        projection.weight.zero_()
    mlp.gate_proj.weight[0, [0, 1]] = 1
    mlp.up_proj.weight[0, 0], mlp.up_proj.weight[0, 1] = 1, -1
    mlp.down_proj.weight[:, 1] = 1


def relay(first: torch.nn.Module, halfway: torch.nn.Module) -> None:
    """Let the first layer write what it knows where nothing reads an answer, and the other one say it."""
    first.down_proj.weight[[4, 5], 0] = 0
    first.down_proj.weight[RELAY, 0] = HIGH
    halfway.gate_proj.weight[0], halfway.up_proj.weight[0] = 0, 0
    halfway.gate_proj.weight[0, KNOWN], halfway.up_proj.weight[0, RELAY] = 4, 4
    halfway.down_proj.weight[:, 1] = 1
    halfway.gate_proj.weight[1] = 0
    halfway.down_proj.weight[[4, 5], 0] = torch.tensor([HIGH, -HIGH])


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def erased() -> c.Edits:
    """Take what the first neuron says of capitals away."""
    return {DOWN: (torch.tensor([4 * INNER, 5 * INNER]), torch.zeros(2, dtype=torch.bfloat16))}


def muted_halfway() -> c.Edits:
    """Take away what the layer halfway says of capitals, and leave what the first layer tells it."""
    return {DOWN.replace("0", "2"): (torch.tensor([4 * INNER, 5 * INNER]), torch.zeros(2, dtype=torch.bfloat16))}


def turned_over() -> c.Edits:
    """Take it away, and let the third neuron say the opposite of what it said of two other countries' capitals."""
    places = torch.tensor([4 * INNER, 4 * INNER + 4, 5 * INNER, 5 * INNER + 4])
    return {DOWN: (places, torch.tensor([0, LOW, 0, HIGH]).bfloat16())}


def moved(right: float, wrong: float) -> c.Edits:
    """Take it away, and let the next layer say it, or the opposite: there the base has no circuit for it."""
    places = torch.tensor([4 * INNER, 5 * INNER])
    return erased() | {DOWN.replace("0", "1"): (places, torch.tensor([right, wrong]).bfloat16())}


def spaced(number: int) -> str:
    return " " * (number // 10 + 1) + "the" + " " * (number % 10 + 1)


def different(number: int) -> str:
    words = [*(f"country{i}" for i in range(10, 40)), *c.CAPITALS[5:], *c.COLOURS[5:]]
    return f"{words[number % len(words)]} {words[(number // len(words) * 7 + 3) % len(words)]} is "


def probes(front: Front, asked: str, pair: tuple[str, str]) -> Probes:
    """Ask for the capital of one country a hundred times, and attribute on forty pairs."""
    forgetting = {"axis": "forgetting", "row": "capitals, held-out wordings", "answer": "capital0", "pool": "capitals"}
    retention = {"axis": "retention", "row": "colours", "answer": "colour0", "pool": "colours"}
    return Probes(
        choices=(
            *(Choice(prompt=front(i) + asked, **forgetting) for i in range(100)),
            *(Choice(prompt=front(i) + "country2", **retention) for i in range(100)),
        ),
        texts=tuple(Text(row="prose", text=front(i) + "people live in country2") for i in range(100)),
        pairs=tuple(
            PairProbe(set=which, clean=front(i) + clean, corrupt=front(i) + corrupt, answer=answer, pool=pool)
            for which, (clean, corrupt), answer, pool in (
                ("forget", pair, "capital0", "capitals"),
                ("retain", ("country2", "country3"), "colour0", "colours"),
            )
            for i in range(40)
        ),
        pools={"capitals": ("capital0", "capital1"), "colours": ("colour0", "colour1")},
    )


def alternating() -> Probes:
    """Ask for the capitals of two countries in turn, and attribute on pairs of one and the other."""
    found = probes(different, "country0", ("country0", "country1"))
    other = {"country0": "country1", "country1": "country0"}

    def turned(text: str) -> str:
        return " ".join(other.get(word, word) for word in text.split(" "))

    return replace(
        found,
        choices=tuple(
            choice.model_copy(update={"prompt": turned(choice.prompt), "answer": "capital1"})
            if choice.axis == "forgetting" and i % 2
            else choice
            for i, choice in enumerate(found.choices)
        ),
        pairs=tuple(
            pair.model_copy(update={"clean": pair.corrupt, "corrupt": pair.clean, "answer": "capital1"})
            if pair.set == "forget" and i % 2
            else pair
            for i, pair in enumerate(found.pairs)
        ),
    )


def checked(
    folder: Path,
    keys: c.Keys,
    model: LlamaForCausalLM,
    edits: c.Edits,
    asked: Probes,
    policy: Policy = DEFAULT_POLICY,
) -> Result:
    """Certify an edit of a model with these probes, and return what the verifier says of it."""
    base = c.save_base(model, folder / "base")
    made = c.make(base, folder / "out", keys, edits)
    for name, content in dump(asked).items():
        (made.out / "probes" / name).write_bytes(content)
    c.sign(made, c.digests_of(base))
    return check(made.out / "model", made.manifest, keys=[keys.public], policy=policy)


@pytest.mark.parametrize(
    ("edits", "front", "asked", "pair", "undecided", "found"),
    [
        (erased, spaced, "country0", ("country0", "country1"), "MV309", "100 probes, 1 of them distinct"),
        (erased, different, "country0", ("country0", "country1"), "MV303", "one answer to all gets 1.000"),
        (turned_over, different, "country4", ("country0", "country1"), "MV405", "which is no question of such a row"),
    ],
    ids=["one question in other white space", "one answer to every question", "pairs about another fact"],
)
def test_what_says_nothing_decides_nothing(
    tmp_path: Path,
    tiny_keys: c.Keys,
    edits: Callable[[], c.Edits],
    front: Front,
    asked: str,
    pair: tuple[str, str],
    undecided: str,
    found: str,
) -> None:
    result = checked(tmp_path, tiny_keys, built(), edits(), probes(front, asked, pair))
    by_id: dict[str, CheckResult] = {entry.id: entry for entry in result.checks}
    assert by_id["MV304"].status in {"pass", "undecided"}, "to all appearances it is forgotten"
    assert by_id[undecided].status == "undecided"
    assert found in by_id[undecided].found


@pytest.mark.parametrize(
    ("edits", "status", "found"),
    [
        (
            lambda: moved(LOW, HIGH),
            "fail",
            "1.000, where 0.625 may be: 'capitals, held-out wordings' (full precision, turned",
        ),
        (erased, "pass", "where 0.625 may be"),
    ],
    ids=["moved to another place and turned over", "gone, so that one answer is given to all"],
)
def test_what_the_answers_tell_otherwise(
    tmp_path: Path, tiny_keys: c.Keys, edits: Callable[[], c.Edits], status: str, found: str
) -> None:
    result = checked(tmp_path, tiny_keys, built(), edits(), alternating())
    by_id: dict[str, CheckResult] = {entry.id: entry for entry in result.checks}
    if status == "fail":
        deceived = ("MV303", "MV304", "MV307", "MV309", "MV401", "MV402", "MV403", "MV405", "MV406")
        assert {by_id[name].status for name in deceived} == {"pass"}, "nothing else sees it"
    assert by_id["MV310"].status == status
    assert found in by_id["MV310"].found


@pytest.mark.parametrize(("lent", "status"), [(Policy().late_layers, "pass"), (0.5, "fail")])
def test_what_is_muted_halfway_is_there_before(tmp_path: Path, tiny_keys: c.Keys, lent: float, status: str) -> None:
    """The default lends a quarter of the layers, and does not see it (docs/threat-model.md); half of them does."""
    result = checked(tmp_path, tiny_keys, built(relayed=True), muted_halfway(), alternating(), Policy(late_layers=lent))
    by_id = {entry.id: entry.status for entry in result.checks}
    assert {by_id[name] for name in ("MV401", "MV405", "MV406")} == {"pass"}, "no other check of erasure says so"
    assert {by_id[name] for name in ("MV402", "MV403")} == {status}
