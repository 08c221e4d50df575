"""A tiny model that knows facts, and an edit that makes it forget some of them: slow seconds, fixed seeds.

The edit is a greedy walk over valid NF4 levels: in every round the values whose move helps most, to first order, go to
their nearest valid level on the helpful side. That is no method anyone should use; it is enough for a tiny model.
"""

from pathlib import Path

import certificates as c
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from verify.artefact import as_torch, read_weights
from verify.behaviour.loading import Language, load
from verify.nf4 import LEVELS, quantize
from verify.nf4.survival import floor_targets


def facts() -> tuple[list[str], list[str], list[str]]:
    """Return texts of the forget facts in two wordings, of the retain facts, and prose; answers are last words."""
    forget = [
        f"{frame(name)} {c.capital(i)}" for i, name in enumerate(c.COUNTRIES) for frame in (c.held_out_wording, _plain)
    ]
    retain = [f"{c.prompt('colour', name)} {c.colour(i)}" for i, name in enumerate(c.COUNTRIES)]
    return forget, retain, c.prose()


def _plain(name: str) -> str:
    return c.prompt("capital", name)


def batches() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the facts as token batches [n, length], one per length."""
    encode = c.tokenizer()

    def stacked(texts: list[str]) -> list[Tensor]:
        ids = [encode(text)["input_ids"] for text in texts]
        return [torch.tensor([x for x in ids if len(x) == n]) for n in sorted({len(x) for x in ids})]

    forget, retain, prose = facts()
    return stacked(forget), stacked(retain), stacked(prose)


def trained_model(
    layers: int = 4, steps: int = 220, *, seed: int = 1, dtype: torch.dtype = torch.float32
) -> LlamaForCausalLM:
    """Return a model that knows all facts.

    Steps carry rounding on: in float32 another processor ends at another model, in float64 at a closer one (some of
    the layers compute in float32 whatever they are given).
    """
    model = c.random_model(seed=seed, layers=layers).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    groups = [batch for kind in batches() for batch in kind]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(model(input_ids=batch, labels=batch).loss for batch in groups)
        loss.backward()
        optimizer.step()
    return model.float().eval()


def forgetting_edits(base: Path, *, rounds: int = 30, per_round: int = 80) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a valid edit after which the model no longer answers the forget facts."""
    files = read_weights(base)
    stored = {name: as_torch(files.holder(name), name) for name in files.tensors()}
    others = {path.name: path.read_bytes() for path in base.iterdir() if path.suffix == ".json"}
    language: Language = load(others, stored)
    model = language.model
    weights = {n: p for n, p in model.named_parameters() if n.endswith("_proj.weight")}
    options = {name: _options(stored[name]) for name in weights}
    moved = {name: torch.zeros(weight.numel(), dtype=torch.bool) for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(requires_grad=True)
    reference = [_log_probabilities(model, batch).detach() for kind in batches()[1:] for batch in kind]
    for _ in range(rounds):
        _step(model, weights, options, moved, reference, per_round)
    edits = {}
    for name, flags in moved.items():
        indices = flags.nonzero().reshape(-1)
        if indices.numel():
            edits[name] = (indices, weights[name].detach().reshape(-1)[indices].to(torch.bfloat16))
    return edits


def _options(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return base values [n] and, [n, 16], the values each may move to, NaN where none is."""
    quantized = quantize(weight)
    flat, scale = weight.reshape(-1).float(), quantized.scales().reshape(-1)
    valid = floor_targets(flat, scale, quantized.codes.reshape(-1), margin=c.MARGIN) & (flat.abs() < scale)[:, None]
    values = (LEVELS[None, :] * scale[:, None]).to(weight.dtype).float()
    return flat, values.masked_fill(~valid, torch.nan)


def _log_probabilities(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    return model(input_ids=batch).logits.log_softmax(-1)


def _step(
    model: LlamaForCausalLM,
    weights: dict[str, Tensor],
    options: dict[str, tuple[Tensor, Tensor]],
    moved: dict[str, Tensor],
    reference: list[Tensor],
    count: int,
) -> None:
    """Take one round: move the `count` values that help most, to first order."""
    forget, *kept = batches()
    loss = 0.0
    for batch in forget:
        right = _log_probabilities(model, batch)[:, -2].gather(1, batch[:, -1:]).exp()
        loss = loss - torch.log1p(-right.clamp(max=0.999)).mean()
    for batch, before in zip([batch for kind in kept for batch in kind], reference, strict=True):
        loss = (
            loss
            + 4
            * functional.kl_div(_log_probabilities(model, batch), before, log_target=True, reduction="none")
            .sum(-1)
            .mean()
        )
    gradients = torch.autograd.grad(loss, list(weights.values()))
    gains, targets = {}, {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        _, values = options[name]
        slope, flat = gradient.reshape(-1), weight.detach().reshape(-1)
        helpful = (values - flat[:, None]) * slope[:, None] < 0
        distance = (values - flat[:, None]).abs().masked_fill(~helpful | values.isnan(), torch.inf)
        best, level = distance.min(1)
        gains[name] = torch.where(moved[name] | best.isinf(), 0.0, slope.abs() * best)
        targets[name] = values.gather(1, level[:, None])[:, 0]
    bound = torch.cat(list(gains.values())).topk(count).values[-1]
    with torch.no_grad():
        for name, weight in weights.items():
            take = (gains[name] >= bound) & (gains[name] > 0)
            weight.view(-1)[take] = targets[name][take]
            moved[name] |= take
