"""The exact finish: swaps and a polish on the lattice, then the smallest change that forgets and retains as well."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mansu.config import Config
from mansu.data.examples import Prompts, draw
from mansu.data.prepare import Data
from mansu.precision import Precision, products
from mansu.solve.finish.moves import Slope
from mansu.solve.finish.polish import polish
from mansu.solve.finish.shrink import least_useful, returned, shrink
from mansu.solve.finish.swaps import swap
from mansu.solve.frontier import Measurement, Trials
from mansu.solve.masked import Masked
from mansu.solve.objective import Evaluation, Weights
from mansu.solve.sampled import gradients_at
from mansu.solve.stopping import STOPPING_PROMPTS

_PROMPTS = 64
_TEXTS = 12
_PART = 8
"""Prompts of one squared gradient, as in the Fisher of what is retained."""
_TRIALS = 4
"""Measurements of a round."""
_RISE = 10.0
"""How often a rise of the retain terms counts: forgetting more is not to be bought with retention."""
_TRACE = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the moves that are returned to trace the frontier; all of them is the base."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finish:
    """What to do once all is snapped; zero rounds or trials leave a step out.

    With `frontier` it is traced, and no trial is cut short. Gradients are of `training` (trained wordings), acceptance
    is by `validation` (wordings set aside; the retain terms of both are of retain data trained on). `say` is told what
    each step did.
    """

    training: Evaluation
    validation: Evaluation
    swap_rounds: int
    polish_rounds: int
    minimal_trials: int
    say: Say
    frontier: bool = False
    products: Precision = "float32"


def finishing(data: Data, weights: Weights, config: Config, say: Say, *, frontier: bool) -> Finish:
    """Return the finish that a configuration asks for."""
    training, validation = evaluations(data, weights, config.seed, STOPPING_PROMPTS)
    return Finish(
        training,
        validation,
        swap_rounds=config.swap_rounds,
        polish_rounds=config.polish_rounds,
        minimal_trials=config.minimal_trials,
        say=say,
        frontier=frontier,
        products=config.training_products,
    )


def evaluations(data: Data, weights: Weights, seed: int, used: int) -> tuple[Evaluation, Evaluation]:
    """Return the objective on fixed batches of trained and of validation wordings.

    `used` is how many validation prompts tell with this seed when to snap: where there are enough, others are
    taken here.
    """
    validation = data.forget_validation
    taken = set(draw(random.Random(seed), len(validation), used))  # noqa: S311  (a sample, not a secret)
    rest = [i for i in range(len(validation)) if i not in taken]
    rng = random.Random(seed + 1)  # noqa: S311  (as above)
    if len(rest) >= _PROMPTS:
        validation = validation.subset(rest)

    def fixed(prompts: Prompts) -> Evaluation:
        return Evaluation(
            forget=prompts.subset(draw(rng, len(prompts), _PROMPTS)),
            retained=data.retained,
            weights=weights,
            prompts=tuple(draw(rng, len(data.retained.prompts), _PROMPTS)),
            texts=tuple(draw(rng, data.retained.texts.ids.shape[0], _TEXTS)),
        )

    return fixed(data.forget), fixed(validation)


def take_steps(
    masked: Masked, trials: Trials, found: Measurement, how: Finish, *, budget: float, hold: Callable[[], None]
) -> None:
    """Take the steps that are asked for, with `hold()` after each; `found` is what the snapped edit measures."""
    after = found
    if how.swap_rounds or how.polish_rounds:
        after = exchange(masked, trials, found, how, budget=budget)
        hold()
    if how.minimal_trials:
        minimal(masked, trials, found, after, how)
        hold()
    if how.frontier:
        trace(masked, trials, how)
        hold()


def exchange(masked: Masked, trials: Trials, found: Measurement, how: Finish, *, budget: float) -> Measurement:
    """Swap, then polish; return what the model then measures, or `found` (what it did) where nothing was kept.

    After each, a target that was met must still be met, at no more retention than it cost: else it is put back.
    """
    _, retained = how.validation.values(trials.model)

    def look() -> Slope:
        return Slope(_gradient(trials.model, masked, how), curvature(trials.model, masked, how))

    def measured() -> float:
        forget, now = how.validation.values(trials.model)
        return forget + now + _RISE * max(0.0, now - retained)

    for rounds, what, step in ((how.swap_rounds, "swapped", swap), (how.polish_rounds, "polished", polish)):
        before = masked.state()
        if not rounds:
            continue
        start, better = step(masked, look, measured, rounds=rounds, trials=_TRIALS, budget=budget)
        if not better.kept:
            continue
        met = found.within(trials.target)
        ceiling = replace(trials.target, retain=found.retain) if met else trials.target
        after = trials.measure(ceiling)
        kept = not met or after.within(ceiling)
        trials.record("exchange", masked.changed, after, kept=kept)
        if kept:
            found = after
        else:
            masked.restore(before)
        undone = "" if kept else "; put back, for the target or retention was missed"
        how.say(f"  {what}: {better.kept:,}, objective {start:.4f} to {better.value:.4f}{undone}")
    return found


def minimal(masked: Masked, trials: Trials, found: Measurement, after: Measurement, how: Finish) -> None:
    """Return to the base what the edit forgets and retains as well without, on the trials' prompts.

    `found` is what it measured when all was snapped, `after` what it measures now: where that misses the target,
    nothing is returned. As well: nothing above `found`, if that met the target, so that the margin that training left
    stays; else nothing above `after`.
    """
    if not after.within(trials.target):
        return
    ceiling = found if found.within(trials.target) else after

    def enough() -> bool:
        after = trials.measure(ceiling)
        kept = after.within(ceiling)
        trials.record("minimal", masked.changed, after, kept=kept)
        return kept

    before = masked.changed
    order = least_useful(masked, curvature(trials.model, masked, how))
    count = shrink(masked, order, enough, trials=how.minimal_trials)
    how.say(f"  minimal: {count:,} of {before:,} moves returned to the base")


def trace(masked: Masked, trials: Trials, how: Finish) -> None:
    """Measure the edit with ever more of its moves returned, least useful first; it is left as it was."""
    at = masked.master
    order = least_useful(masked, curvature(trials.model, masked, how))
    for share in _TRACE:
        masked.set(returned(masked, at, order[: round(share * order.numel())]))
        trials.record("trace", masked.changed, trials.measure(trials.target), kept=False)
    masked.set(at)


def curvature(model: Any, masked: Masked, how: Finish) -> Tensor:
    """Return the diagonal Fisher of the retain loss plus that of the forget term at the edit, float32 `[n]`.

    The mean of the first is added: no direction is taken to be flat.
    """
    forget, total = how.training.forget, torch.zeros_like(masked.fisher)
    starts = range(0, len(forget), _PART)
    for start in starts:
        part = replace(how.training, forget=forget.subset(range(start, min(start + _PART, len(forget)))))
        with products(how.products):
            loss = partial(part.forgetting, model)
            total += gradients_at(loss, masked.layers, masked.indices).square()
    return masked.fisher + masked.fisher.mean() + total / len(starts)


def _gradient(model: Any, masked: Masked, how: Finish) -> Tensor:
    with products(how.products):
        return gradients_at(
            lambda: how.training.forgetting(model) + how.training.retaining(model), masked.layers, masked.indices
        )
