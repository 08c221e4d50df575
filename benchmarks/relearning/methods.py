"""The compared models: each is trained to one target of forget accuracy, so that they differ elsewhere."""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.relearning.data import World
from mansu.base import open_base, open_language, working_copy
from mansu.baselines.losses import (
    answer_log_probabilities,
    ascent,
    negative_preference,
    reference_log_probabilities,
)
from mansu.circuit_edit import edit_circuit
from mansu.config import Config
from mansu.data.examples import Prompts, Retained, Texts, answer_accuracy, draw, tokenize
from mansu.data.prepare import predicted, prepare
from mansu.progress import Steps
from mansu.request import Fact, Request, Split
from mansu.solve.objective import Objective, Sizes, Weights
from mansu.unlearn import find_circuit
from verify.behaviour.modules import nf4_linears

HELD_OUT = 3
"""The wording of every fact that no method is given."""


RATES: Mapping[str, float] = {
    "gradient ascent": 1e-4,
    "graddiff": 3e-4,
    "npo": 3e-4,
    "read-out": 3e-3,
    "last MLP": 3e-3,
    "middle MLP": 3e-3,
    "early layers": 1e-3,
}
"""Adam's learning rates."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every method is given: the base, its data, and the accuracy at which to stop (after `limit` steps, anyway).

    `forget` and `retain` are prompts in the given wordings; `watched` is the forget set in all wordings.
    """

    world: World
    tokenizer: PreTrainedTokenizerFast
    base: Any
    forget: Prompts
    watched: Prompts
    retained: Retained
    target: float
    seed: int
    limit: int = 300


def make_task(world: World, tokenizer: PreTrainedTokenizerFast, base: Any, *, target: float, seed: int) -> Task:
    """Tokenize the sets and record the base's predictions on what is retained."""
    retain = prompts_of(world, tokenizer, given(world.retain_given))
    written = [tokenizer(text)["input_ids"] for text in world.filler]
    shortest = min(map(len, written))
    texts = Texts(torch.tensor([ids[:shortest] for ids in written]))
    retained = predicted(base, retain, texts)
    forget, watched = (prompts_of(world, tokenizer, facts) for facts in (given(world.forget), world.forget))
    return Task(world, tokenizer, base, forget, watched, retained, target, seed)


def prompts_of(world: World, tokenizer: PreTrainedTokenizerFast, facts: tuple[Fact, ...]) -> Prompts:
    """Tokenize facts, each with its pool of answers."""
    return tokenize(tokenizer, facts, [world.pool(fact) for fact in facts])


def given(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """Return the wordings that methods are given."""
    return tuple(fact for fact in facts if fact.wording != HELD_OUT)


def baseline(method: str, task: Task) -> tuple[Any, int]:
    """Run GradDiff, NPO or bare gradient ascent on all linear layers; return the model and its steps."""
    model = copy.deepcopy(task.base)
    rng = random.Random(task.seed)
    reference = reference_log_probabilities(task.base, task.forget)

    def loss() -> Tensor:
        chosen = draw(rng, len(task.forget), 40)
        log_p = answer_log_probabilities(model, task.forget, chosen)
        if method == "gradient ascent":
            return ascent(log_p)
        forget = ascent(log_p) if method == "graddiff" else negative_preference(log_p, reference[chosen], beta=0.1)
        kept = draw(rng, len(task.retained.prompts), 40)
        return forget - answer_log_probabilities(model, task.retained.prompts, kept).mean()

    weights = [layer.weight for layer in nf4_linears(model).values()]
    return model, descend(model, weights, loss, task, RATES[method])


def suppress(place: str, task: Task) -> tuple[Any, int]:
    """Train the weights of one place alone, by the engine's own objective; return the model and its steps."""
    model = copy.deepcopy(task.base)
    rng = random.Random(task.seed)
    objective = Objective(task.forget, task.retained, Weights(), Sizes(), rng)
    weights = [weight for name, weight in model.named_parameters() if _lies_in(place, name, len(model.model.layers))]

    def loss() -> Tensor:
        return objective.forget_loss(model) + objective.retain_loss(model)

    return model, descend(model, weights, loss, task, RATES[place])


def _lies_in(place: str, name: str, layers: int) -> bool:
    if place == "read-out":
        return name == "lm_head.weight"
    if place == "early layers":
        return any(name.startswith(f"model.layers.{layer}.") and "norm" not in name for layer in range(layers // 3))
    layer = layers - 1 if place == "last MLP" else layers // 2 - 1
    return name.startswith(f"model.layers.{layer}.mlp.")


def descend(model: Any, weights: list[Any], loss: Callable[[], Tensor], task: Task, rate: float) -> int:
    """Take Adam steps until the forget set, in all wordings, is answered no better than the target; return how many."""
    for weight in weights:
        weight.requires_grad_(requires_grad=True)
    optimizer = torch.optim.Adam(weights, lr=rate)
    taken = 0
    while taken < task.limit and answer_accuracy(model, task.watched) > task.target:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        taken += 1
    model.requires_grad_(requires_grad=False)
    return taken


def engine_config(task: Task, settings: Mapping[str, Any]) -> Config:
    """Return the engine's configuration at this size, with these settings in place of ours.

    A small model has little to spare: the default share of 0.45 % (at most 0.5 %, a bound that `Config` checks and
    `model_copy` does not) would leave the solver some 800 weights. The first toy took 5 %.
    """
    small = {
        "seed": task.seed,
        "mask_share": 0.05,
        "learning_rate": 1e-2,
        "attribution_pairs": 32,
        "circuit_pairs": 16,
        "sampled_texts": 64,
        "text_length": 8,
        "fisher_batches": 12,
        "forget_target": 2 * task.target,  # half of it is enough for the solver to snap
    }
    return Config().model_copy(update=small | settings)


def engine(task: Task, folder: Path, settings: Mapping[str, Any], *, steps: Steps) -> tuple[Any, int]:
    """Run mansu's own steps on the base, saved to `folder`; return the model and how many parameters it changed.

    The request is made here, not read: the engine would hold a quarter of the facts out, and the other methods do not.
    """
    task.base.save_pretrained(folder)
    task.tokenizer.save_pretrained(folder)
    world, config = task.world, engine_config(task, settings)
    request = Request(
        forget=Split(given(world.forget), world.forget, (), ()),
        retain=Split(given(world.retain_given), (), (), ()),
        prose=world.filler,
        prose_held_out=(),
        forget_sha256="",
        retain_sha256="",
        forget_lines=len(world.forget),
        retain_lines=len(world.retain_given),
    )
    base = open_base(folder)
    language, _ = open_language(base)
    data = prepare(language, base, request, config, steps=steps)
    circuit = find_circuit(language, data, config, steps=steps)
    model = working_copy(language, base.stored)
    edit = edit_circuit(model, base, data, circuit, config, steps=steps)
    return model.eval().requires_grad_(requires_grad=False), edit.size
