"""The controls that are trained: one that learns on, and two that fall silent in their last modules.

None of them erases anything (docs/cad.md). Each function returns the weights it changed, tensor name → float32
values that the stored dtype represents: what a model saved and loaded again would hold.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mansu.data.examples import Prompts, answer_accuracy, draw, last_logits
from mansu.progress import Advance
from mansu.solve.objective import Objective
from verify.behaviour.loading import Language, variant
from verify.behaviour.modules import nf4_linears
from verify.circuits import Family


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the controls are trained, by Adam.

    The fine-tune takes `fine_tune_steps` of `fine_tune_batch` retain prompts. A suppression trains until the answers
    are lost, which is looked at every `look` steps, and for `mute_steps` at most.
    """

    fine_tune_steps: int = 30
    fine_tune_rate: float = 2e-5
    fine_tune_batch: int = 32
    mute_steps: int = 40
    mute_rate: float = 1e-3
    look: int = 4


@dataclass(frozen=True, slots=True)
class Muting:
    """What a suppression trains on: the objective of unlearning, wordings that tell when to stop, and the target."""

    objective: Objective
    validation: Prompts
    target: float


def fine_tuned(
    language: Language, stored: torch.dtype, retain: Prompts, recipe: Recipe, *, seed: int, progress: Advance
) -> dict[str, Tensor]:
    """Fine-tune all linear layers on the answers of the retain set: what any further training does to a circuit."""
    rng = random.Random(seed)  # noqa: S311  (batches, not secrets)
    names = [f"{name}.weight" for name in nf4_linears(language.model)]
    model, weights = _trainable(language, names)
    optimizer = torch.optim.Adam(weights.values(), lr=recipe.fine_tune_rate)
    for _ in range(recipe.fine_tune_steps):
        chosen = draw(rng, len(retain), recipe.fine_tune_batch)
        loss = functional.cross_entropy(last_logits(model, retain, chosen), retain.answers_of(chosen))
        _descend(optimizer, loss)
        progress(1)
    return _as_stored(weights, stored)


def head_only(family: Family) -> tuple[str, ...]:
    """Return the read-out's weight, by name; where it is tied to the embedding, training it alone unties them."""
    return (f"{family.unembedding}.weight",)


def last_mlp_only(family: Family, model: Any) -> tuple[str, ...]:
    """Return the parameters of the last layer's MLP, by name; norms before and after it are no part of it."""
    prefix = f"{family.sites[-1].mlp}."
    return tuple(name for name, _ in model.named_parameters() if name.startswith(prefix))


def muted(
    language: Language,
    stored: torch.dtype,
    names: Sequence[str],
    muting: Muting,
    recipe: Recipe,
    *,
    progress: Advance,
) -> dict[str, Tensor]:
    """Train the named parameters alone, by the objective of unlearning, until the forget answers are lost.

    Whether they are is for the caller to measure: after `recipe.mute_steps` it ends in any case.
    """
    model, weights = _trainable(language, names)
    optimizer = torch.optim.Adam(weights.values(), lr=recipe.mute_rate)
    for step in range(1, recipe.mute_steps + 1):
        _descend(optimizer, muting.objective.forget_loss(model) + muting.objective.retain_loss(model))
        progress(1)
        if step % recipe.look == 0 and answer_accuracy(model, muting.validation) <= muting.target:
            break
    return _as_stored(weights, stored)


def _trainable(language: Language, names: Sequence[str]) -> tuple[Any, dict[str, Tensor]]:
    """Return a copy of the model that shares all but the named parameters, which alone take gradients."""
    own = {name: language.model.state_dict()[name].clone() for name in names}
    model = variant(language, own).model
    weights = {name: model.get_parameter(name) for name in names}
    for weight in weights.values():
        weight.requires_grad_(True)
    return model, weights


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _as_stored(weights: Mapping[str, Tensor], stored: torch.dtype) -> dict[str, Tensor]:
    return {name: weight.detach().to(stored).float() for name, weight in weights.items()}
