"""Training from scratch: the base, and the gold control, which never sees the forget set."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.relearning.data import Rows, World, fact_texts, rows_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """The model's shape and its training: AdamW, warm-up, then a cosine to a tenth of the rate."""

    layers: int = 4
    width: int = 64
    inner: int = 128
    heads: int = 4
    steps: int = 400
    batch: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.1


def train(world: World, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int, *, with_forget: bool) -> Any:
    """Return a model trained on the world's facts and filler; in float32.

    The gold control (`with_forget=False`) has the same seed, start and number of steps.
    """
    facts = (*world.forget, *world.retain) if with_forget else world.retain
    rows = rows_of(tokenizer, [*fact_texts(facts), *world.filler])
    model = new_model(tokenizer, recipe, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(recipe.steps):
        while len(order) < recipe.batch:
            order = torch.cat([order, torch.randperm(rows.count, generator=generator)])
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        text_loss(model, rows, chosen).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval().requires_grad_(requires_grad=False)


def new_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """Return a model with random weights; embeddings and read-out are not tied."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def text_loss(model: Any, rows: Rows, chosen: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of the next words of the chosen rows, in nats."""
    loss: torch.Tensor = model(input_ids=rows.ids[chosen], labels=rows.labels[chosen]).loss
    return loss


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.55 + 0.45 * math.cos(math.pi * (step - warm) / max(1, steps - warm))
