"""Every method on a tiny model: it forgets, moves nothing but what it says, and is exported to be audited."""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import certificates as c
import pytest
import tiny_baselines as tiny
import torch

from mansu.base import open_base, quantized_weights
from mansu.baselines import (
    METHODS,
    RMU,
    SSD,
    SURE,
    Budget,
    CircuitAscent,
    LoRA,
    Method,
    SimNPO,
    export,
    regions_of,
)
from mansu.baselines.losses import answer_log_probabilities
from mansu.baselines.weights import edited_weights, put
from mansu.data.examples import Prompts, answer_accuracy
from mansu.retain.fisher import gradients
from verify.artefact import as_torch
from verify.behaviour.modules import nf4_linears, survey
from verify.circuits import describe
from verify.circuits.circuit import full_circuit
from verify.errors import UsageError
from verify.nf4 import quantize, survival

ROOT = Path(__file__).parent.parent
BUDGET = Budget(steps=10)
AT: dict[str, tuple[Method, float]] = {
    **{name: (method, 1e-3) for name, method in METHODS.items()},
    "simnpo": (SimNPO(forget_weight=1.0), 1e-2),
    "rmu": (RMU(layer=1, alpha=1.0), 1e-2),
    "sure": (SURE(), 1e-2),
    "ssd": (SSD(dampening=0.1), 0.3),
    "lora": (LoRA(), 3e-3),
}
"""Settings at which the tiny model forgets, and little else is asked."""
WITHOUT_RETENTION = {"ascent", "ascent-circuit", "rmu", "ssd"}
"""Methods that need not tell the two sets apart on this model at these settings."""


@cache
def edited(name: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the edited weights and the model; neither is written to."""
    if name == "lora":
        pytest.importorskip("peft")
    known = tiny.known()
    model = known.fresh()
    method, strength = AT[name]
    method.edit(model, known.data, strength, BUDGET, 0)
    return edited_weights(model, torch.float32), model


@torch.no_grad()
def told(model: Any, prompts: Prompts) -> float:
    """Return the mean log probability of the right answers."""
    return float(answer_log_probabilities(model, prompts, range(len(prompts))).mean())


@pytest.mark.parametrize("name", METHODS)
def test_it_forgets_and_moves_only_weights_that_nf4_quantizes(name: str) -> None:
    known = tiny.known()
    base = known.fresh()
    weights, model = edited(name)
    # log probabilities: how many answers fall with them differs between processors, whose rounding trains other models
    assert told(base, known.data.forget_validation) > -0.2
    assert told(model, known.data.forget_validation) < -2
    if name not in WITHOUT_RETENTION:
        assert told(model, known.data.retained.prompts) > told(model, known.data.forget) + 1.5
    before, after = base.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    linears = {f"{layer}.weight" for layer in weights}
    for key, value in before.items():
        if key not in linears:
            assert torch.equal(value.view(torch.int32), after[key].view(torch.int32)), key
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert survey(model) == survey(base)


def outside(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], mask: dict[str, torch.Tensor]) -> int:
    """Return how many values outside a mask changed a bit."""
    total = 0
    for name, weight in before.items():
        moved = weight.view(torch.int32) != after[name].view(torch.int32)
        total += int((moved & ~mask[name]).sum() if name in mask else moved.sum())
    return total


def test_sure_trains_the_rows_with_the_largest_forget_gradients_and_no_others() -> None:
    known = tiny.known()
    base = known.fresh()
    mask = SURE().mask(known.fresh(), known.data)
    layers = nf4_linears(base)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    loss = answer_log_probabilities(base, known.data.forget, range(len(known.data.forget))).mean()
    norms = {name: g.norm(dim=1) for name, g in gradients(loss, layers).items()}
    every = torch.cat(list(norms.values()))
    rows = {name: region.all(1) for name, region in mask.items()}
    assert all(torch.equal(region.any(1), rows[name]) for name, region in mask.items())
    assert sum(int(row.sum()) for row in rows.values()) / every.numel() == pytest.approx(0.1, abs=0.002)
    least = min(float(norms[name][row].min()) for name, row in rows.items() if row.any())
    most = max(float(norms[name][~row].max()) for name, row in rows.items())
    assert least >= most * 0.999
    before, (after, _) = edited_weights(base, torch.float32), edited("sure")
    assert outside(before, after, mask) == 0
    assert all((before[n] != after[n])[region].float().mean() > 0.9 for n, region in mask.items() if region.any())


def test_circuit_ascent_stays_in_the_circuit() -> None:
    known = tiny.known()
    before, (after, _) = edited_weights(known.fresh(), torch.float32), edited("ascent-circuit")
    assert outside(before, after, known.regions) == 0
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("regions", [None, {}, {"model.layers.0.mlp.up_proj": torch.zeros(128, 64, dtype=torch.bool)}])
def test_circuit_ascent_without_a_circuit_is_refused(regions: dict[str, torch.Tensor] | None) -> None:
    known = tiny.known()
    with pytest.raises(UsageError) as caught:
        CircuitAscent().edit(known.fresh(), replace(known.data, regions=regions), 1e-3, BUDGET, 0)
    assert caught.value.id == "ME281"


def test_the_whole_graph_owns_every_weight() -> None:
    model = tiny.known().fresh()
    regions = regions_of(model, full_circuit(describe(model).graph))
    assert regions.keys() == nf4_linears(model).keys()
    assert all(region.all() for region in regions.values())


def test_rmu_trains_down_projections_up_to_its_layer() -> None:
    known = tiny.known()
    before = edited_weights(known.fresh(), torch.float32)
    for layer, names in ((1, {0, 1}), (0, {0})):
        model = known.fresh()
        RMU(layer=layer).edit(model, known.data, 1e-3, Budget(steps=1), 0)
        after = edited_weights(model, torch.float32)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {f"model.layers.{number}.mlp.down_proj" for number in names}
    assert RMU().steered(known.fresh()) == 0
    with pytest.raises(UsageError) as caught:
        RMU(layer=2).edit(known.fresh(), known.data, 1e-3, BUDGET, 0)
    assert caught.value.id == "ME284"


def test_ssd_only_makes_weights_smaller() -> None:
    before, (after, _) = edited_weights(tiny.known().fresh(), torch.float32), edited("ssd")
    for name, weight in before.items():
        assert (after[name].abs() <= weight.abs()).all()
        assert (after[name] * weight >= 0).all()


def test_lora_merges_as_peft_does() -> None:
    pytest.importorskip("peft")
    known = tiny.known()
    model, base = known.fresh(), edited_weights(known.fresh(), torch.float32)
    method = LoRA(rank=3, scale=6.0)
    updates = {}
    generator = torch.Generator().manual_seed(1)
    with method.weights(model, known.data, 0) as parameters:
        assert sum(p.numel() for p in parameters) == sum(3 * sum(w.shape) for w in base.values())
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
        for name, module in model.named_modules():
            if hasattr(module, "get_delta_weight"):
                updates[name] = module.get_delta_weight("default").clone()
                a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
                assert torch.allclose(updates[name], 2.0 * b @ a)
    after = edited_weights(model, torch.float32)
    assert updates.keys() == base.keys()
    for name, weight in base.items():
        assert torch.equal(after[name], weight + updates[name]), name
        assert torch.linalg.matrix_rank(after[name] - weight, rtol=1e-3) == 3


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    known = tiny.known()
    with pytest.raises(UsageError) as caught:
        LoRA().edit(known.fresh(), known.data, 1e-3, BUDGET, 0)
    assert caught.value.id == "ME283"
    assert "mansu[lora]" in caught.value.remedy


@pytest.mark.parametrize("name", METHODS)
def test_an_exported_edit_is_the_model_that_was_measured(name: str, tmp_path: Path) -> None:
    known = tiny.known()
    folder = c.save_base(known.fresh(), tmp_path / "base")
    base = open_base(folder)
    _, model = edited(name)
    weights = edited_weights(model, torch.bfloat16)
    export(tmp_path / name, base, weights)
    loaded = open_base(tmp_path / name)
    before, after = quantized_weights(base), quantized_weights(loaded)
    moved = 0
    for tensor, weight in after.items():
        assert torch.equal(weight, weights[tensor.removesuffix(".weight")])
        places = (weight != before[tensor]).reshape(-1).nonzero().reshape(-1)
        moved += places.numel()
        if places.numel():
            crossed = survival(before[tensor], weight, places, margin=2.0**-7).rows["crossing"]
            codes = (quantize(weight).codes != quantize(before[tensor]).codes).reshape(-1)[places]
            assert torch.equal(crossed, codes)
    assert moved > 0
    others = [tensor for tensor in base.weights.tensors() if tensor not in before]
    for tensor in others:
        assert torch.equal(*(as_torch(b.weights.holder(tensor), tensor) for b in (base, loaded)))
    again = known.fresh()
    put(again, weights)
    for prompts in (known.data.forget_validation, known.data.retain_validation):
        assert answer_accuracy(loaded.language().model, prompts) == answer_accuracy(again, prompts)


def test_the_documentation_names_every_method_with_its_paper() -> None:
    text = (ROOT / "docs" / "baselines.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(METHODS)
    for row, method in zip(rows, METHODS.values(), strict=True):
        assert method.paper in row
        assert method.title in row
        assert method.sweep.what in row
