"""Every loss against its formula worked out by hand, or prompt by prompt without the engine's packing."""

import math
from typing import Any

import pytest
import tiny_baselines as tiny
import torch
from torch import Tensor

from mansu.baselines import METHODS, NPO, RMU, DurableUnStyle, GradDiff, LoRA, QuailStyle, SimNPO
from mansu.baselines.dampening import dampened
from mansu.baselines.data import Batch
from mansu.baselines.losses import ascent, negative_preference, simple_negative_preference
from mansu.baselines.margin import logit_hinge
from mansu.baselines.steering import direction
from mansu.baselines.weights import put
from mansu.data.examples import Prompts

BATCH = Batch([0, 5, 7], [1, 2], [3, 9])


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def test_forget_losses_are_those_of_the_papers() -> None:
    log_p, reference = torch.tensor([-0.5, -3.0]), torch.tensor([-0.25, -0.75])
    assert float(ascent(log_p)) == pytest.approx(-1.75)
    npo = -2 / 0.1 * (log_sigmoid(-0.1 * -0.25) + log_sigmoid(-0.1 * -2.25)) / 2
    assert float(negative_preference(log_p, reference, beta=0.1)) == pytest.approx(npo)
    simnpo = -2 / 2.5 * (log_sigmoid(2.5 * 0.5 - 1.0) + log_sigmoid(2.5 * 3.0 - 1.0)) / 2
    assert float(simple_negative_preference(log_p, beta=2.5, gamma=1.0)) == pytest.approx(simnpo)


def test_npo_tends_to_ascent_as_beta_falls() -> None:
    log_p, reference = torch.tensor([-0.5, -3.0], requires_grad=True), torch.tensor([-0.25, -0.75])
    gradients = [
        torch.autograd.grad(loss, log_p)[0]
        for loss in (negative_preference(log_p, reference, beta=1e-4), ascent(log_p))
    ]
    assert torch.allclose(*gradients, atol=1e-3)


def test_the_hinge_is_half_a_step_of_the_base_logits() -> None:
    before, after = torch.tensor([[0.0, 15.0, 5.0, 5.0]]), torch.tensor([[0.2, 15.8, 4.9, 5.0]])
    # fifteen steps of 1: 0.5 less what each logit moved
    assert float(logit_hinge(before, after, bits=4)) == pytest.approx((0.3 + 0.0 + 0.4 + 0.5) / 4)
    assert float(logit_hinge(before, before + 0.5, bits=4)) == 0


def test_dampening_is_the_papers() -> None:
    weight = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0])
    forget, rest = torch.tensor([1.0, 8.0, 8.0, 0.0, 4.0]), torch.tensor([1.0, 2.0, 0.0, 0.0, 1.0])
    # selected are the second and the third; the last is exactly alpha times as important, and stays
    assert dampened(weight, forget, rest, alpha=2.0, dampening=1.0).tolist() == [1.0, -0.5, 0.0, 4.0, 1.25]
    assert dampened(weight, forget, rest, alpha=4.0, dampening=1.0).tolist() == [1.0, -2.0, 0.0, 4.0, 5.0]
    assert dampened(weight, forget, rest, alpha=2.0, dampening=8.0).tolist() == [1.0, -2.0, 0.0, 4.0, 5.0]


def naive_log_p(model: Any, prompts: Prompts, chosen: list[int]) -> Tensor:
    return torch.stack(
        [model(torch.tensor([prompts.ids[i]])).logits[0, -1].log_softmax(-1)[prompts.answers[i]] for i in chosen]
    )


def naive_cross_entropy(model: Any) -> Tensor:
    data = tiny.known().data
    total = -naive_log_p(model, data.retained.prompts, [1, 2]).mean()
    losses = []
    for i in (3, 9):
        ids = data.retained.texts.ids[i]
        log_p = model(ids[None]).logits[0].log_softmax(-1)
        losses += [-log_p[t, ids[t + 1]] for t in range(len(ids) - 1)]
    return total + torch.stack(losses).mean()


def naive_divergence(base: Any, model: Any) -> Tensor:
    data = tiny.known().data

    def kl(ids: Tensor, positions: slice) -> Tensor:
        one, two = (m(ids[None]).logits[0, positions].log_softmax(-1) for m in (base, model))
        return (one.exp() * (one - two)).sum(-1)

    prompts = torch.cat([kl(torch.tensor(data.retained.prompts.ids[i]), slice(-1, None)) for i in (1, 2)])
    texts = torch.cat([kl(data.retained.texts.ids[i], slice(None)) for i in (3, 9)])
    return prompts.mean() + texts.mean()


def disturbed(model: Any) -> Any:
    """The base with other weights, so that no term of a loss is zero."""
    generator = torch.Generator().manual_seed(3)
    state = {name: value for name, value in model.state_dict().items() if name.endswith("_proj.weight")}
    noisy = {
        name.removesuffix(".weight"): v + 0.02 * torch.randn(v.shape, generator=generator) for name, v in state.items()
    }
    put(model, noisy)
    return model


@torch.no_grad()
def test_whole_losses_are_sums_of_their_parts() -> None:
    known = tiny.known()
    base, model = known.fresh(), disturbed(known.fresh())
    data = known.data
    log_p, reference = (naive_log_p(m, data.forget, [0, 5, 7]) for m in (model, base))
    kept, near = naive_cross_entropy(model), naive_divergence(base, model)
    npo = -2 / 0.1 * torch.nn.functional.logsigmoid(-0.1 * (log_p - reference)).mean()
    simnpo = -2 / 2.5 * torch.nn.functional.logsigmoid(-2.5 * log_p).mean()
    logits = [
        torch.stack([m(torch.tensor([data.forget.ids[i]])).logits[0, -1] for i in (0, 5, 7)]) for m in (base, model)
    ]
    wanted = {
        "ascent": log_p.mean(),
        "ascent-circuit": log_p.mean(),
        "graddiff": log_p.mean() + kept,
        "ascent-kl": log_p.mean() + near,
        "npo": npo + kept,
        "simnpo": 0.1375 * simnpo + kept,
        "sure": npo + kept,
        "durableun-style": npo + kept,
        "lora": npo + kept,
        "quail-style": log_p.mean() + logit_hinge(*logits, bits=4) + kept,
    }
    assert wanted.keys() == METHODS.keys() - {"rmu", "ssd"}
    for name, value in wanted.items():
        found = METHODS[name].loss(base, data, 0)(model, BATCH)
        assert float(found) == pytest.approx(float(value), rel=2e-3, abs=2e-3), name
    for weighted in (GradDiff(retain_weight=3.0), DurableUnStyle(forget="ascent", retain_weight=3.0)):
        assert float(weighted.loss(base, data, 0)(model, BATCH)) == pytest.approx(
            float(log_p.mean() + 3 * kept), rel=2e-3
        )
    assert float(NPO(retain_weight=0).loss(base, data, 0)(model, BATCH)) == pytest.approx(float(npo), rel=2e-3)
    assert QuailStyle(margin_weight=0).loss(base, data, 0)(model, BATCH) == pytest.approx(
        float(log_p.mean() + kept), rel=2e-3
    )
    assert [v.forget_weight for v in SimNPO().variants()] == [0.1375, 1.0]
    assert LoRA(forget="ascent").loss(base, data, 0)(model, BATCH) == pytest.approx(
        float(log_p.mean() + kept), rel=2e-3
    )


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1])
def test_rmu_steers_the_layer_it_names_at_every_token(layer: int) -> None:
    known = tiny.known()
    base, model, data = known.fresh(), disturbed(known.fresh()), known.data

    def outputs(m: Any, ids: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = m.model.layers[layer].register_forward_hook(
            lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        m(ids[None])
        handle.remove()
        return kept[0].reshape(-1, m.config.hidden_size)

    def of(prompts: Prompts, i: int) -> Tensor:
        return torch.tensor(prompts.ids[i])

    norm = torch.cat([outputs(base, of(data.forget, i)) for i in range(len(data.forget))]).norm(dim=-1).mean()
    target = 2.0 * norm * direction(base.config.hidden_size, 4)
    forget = torch.cat([outputs(model, of(data.forget, i)) for i in (0, 5, 7)])
    prompts, texts = (
        torch.cat([outputs(model, ids) - outputs(base, ids) for ids in chosen]).square().mean()
        for chosen in (
            [of(data.retained.prompts, i) for i in (1, 2)],
            [data.retained.texts.ids[i] for i in (3, 9)],
        )
    )
    wanted = (forget - target).square().mean() + 10 * (prompts + texts)
    found = RMU(layer=layer, steering=2.0, alpha=10.0).loss(base, data, 4)(model, BATCH)
    assert float(found) == pytest.approx(float(wanted), rel=1e-4)
    assert direction(64, 4).norm() == pytest.approx(1)
    assert (direction(64, 4) >= 0).all()
    assert not torch.equal(direction(64, 4), direction(64, 5))
