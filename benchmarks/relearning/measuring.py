"""What is measured of each model: what it answers, its circuit against the base's, and how fast it learns again."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from benchmarks.relearning.data import World, rows_of
from benchmarks.relearning.methods import HELD_OUT, prompts_of
from benchmarks.relearning.training import text_loss
from mansu.data.examples import Prompts, answer_accuracy, draw, last_logits
from mansu.data.probes import training_pairs
from mansu.solve.objective import asked
from mansu.solve.standing import leads
from mansu.solve.stopping import accuracy_after_nf4
from verify.circuits import EdgeScores, Pair, attribute, compare, swapped
from verify.contract.schema import Schema

CHECKPOINTS = (0, 1, 2, 5, 10, 20, 50, 100)
Regime = Literal["half A", "other text"]


class Point(Schema):
    """After `steps` of training: accuracy on A and on B, and the mean log-probability (nats) of their answers."""

    steps: int
    accuracy_a: float
    accuracy_b: float
    log_probability_a: float
    log_probability_b: float


class Circuits(Schema):
    """CAD of the forget set against the base, as it is and with the base's late layers and read-out (`*_late`)."""

    cad: float
    cad_late: float
    rho: float
    rho_late: float
    mass: float
    cad_retain: float


class Measured(Schema):
    """One model of one seed. `effort` is steps taken; for the engine, parameters changed; 0 where neither applies."""

    model: str
    seed: int
    effort: int
    forget: float
    forget_nf4: float
    forget_held_out: float
    margin: float
    retain: float
    retain_nf4: float
    circuits: Circuits
    relearned: dict[Regime, tuple[Point, ...]]

    @property
    def log_probability(self) -> float:
        """The mean log-probability of the forget set's answers, in nats, before anything is taught again."""
        start = self.relearned["half A"][0]
        return (start.log_probability_a + start.log_probability_b) / 2

    def area(self, half: Literal["a", "b"], regime: Regime = "half A") -> float:
        """Return the mean accuracy over the checkpoints after the start: the area under the curve by log-steps."""
        points = [getattr(p, f"accuracy_{half}") for p in self.relearned[regime] if p.steps]
        return sum(points) / len(points)

    def steps_to(self, accuracy: float, half: Literal["a", "b"], regime: Regime = "half A") -> int | None:
        """Return the first checkpoint with at least this accuracy, None if there is none."""
        points = self.relearned[regime]
        return next((p.steps for p in points if getattr(p, f"accuracy_{half}") >= accuracy), None)


@dataclass(frozen=True, slots=True)
class Attack:
    """How a model is taught again: Adam on all its weights."""

    learning_rate: float = 3e-4
    batch: int = 32
    checkpoints: tuple[int, ...] = CHECKPOINTS


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The base's edge scores and everything that a model of this seed is measured on."""

    world: World
    tokenizer: PreTrainedTokenizerFast
    base: Any
    pairs: tuple[Pair, ...]
    retain_pairs: tuple[Pair, ...]
    scores: EdgeScores
    retain_scores: EdgeScores
    late_from: int
    seed: int


def make_yardstick(
    world: World, tokenizer: PreTrainedTokenizerFast, base: Any, *, late_from: int, seed: int
) -> Yardstick:
    """Attribute the base, on the forget set and on retain facts, both in the wording that no method is given."""
    found = []
    for facts in (world.forget, world.retain_measured):
        held_out = [fact for fact in facts if fact.wording == HELD_OUT]
        pools = {f: world.pool(f) for f in held_out}
        found.append(tuple(training_pairs(held_out, pools, tokenizer, count=len(world.forget) // 4, seed=seed)))
    pairs, retain_pairs = found
    scores, retain_scores = attribute(base, pairs), attribute(base, retain_pairs)
    return Yardstick(world, tokenizer, base, pairs, retain_pairs, scores, retain_scores, late_from, seed)


def measure(name: str, model: Any, effort: int, yardstick: Yardstick, attack: Attack) -> Measured:
    """Measure one model; it is left as it was."""
    world, tokenizer = yardstick.world, yardstick.tokenizer
    forget = prompts_of(world, tokenizer, world.forget)
    new_wording = prompts_of(world, tokenizer, tuple(fact for fact in world.forget if fact.wording == HELD_OUT))
    retain = prompts_of(world, tokenizer, world.retain_measured)
    return Measured(
        model=name,
        seed=yardstick.seed,
        effort=effort,
        forget=answer_accuracy(model, forget),
        forget_nf4=accuracy_after_nf4(model, forget),
        forget_held_out=answer_accuracy(model, new_wording),
        margin=margin(model, forget),
        retain=answer_accuracy(model, retain),
        retain_nf4=accuracy_after_nf4(model, retain),
        circuits=circuits(model, yardstick),
        relearned={
            regime: relearn(model, regime, world, tokenizer, attack, yardstick.seed)
            for regime in ("half A", "other text")
        },
    )


@torch.no_grad()
def margin(model: Any, prompts: Prompts) -> float:
    """Return the mean lead of the answer's logit over its alternatives' mean."""
    return float(leads(*asked(model, prompts)).mean())


def circuits(model: Any, yardstick: Yardstick) -> Circuits:
    """Compare the model's edge scores with the base's, over all edges (there are few)."""
    whole = compare(yardstick.scores, attribute(model, yardstick.pairs))
    with swapped(model, yardstick.base, yardstick.late_from):
        late = compare(yardstick.scores, attribute(model, yardstick.pairs))
    retain = compare(yardstick.retain_scores, attribute(model, yardstick.retain_pairs))
    return Circuits(
        cad=whole.cad,
        cad_late=late.cad,
        rho=whole.rho,
        rho_late=late.rho,
        mass=whole.mass,
        cad_retain=retain.cad,
    )


def relearn(
    model: Any, regime: Regime, world: World, tokenizer: PreTrainedTokenizerFast, attack: Attack, seed: int
) -> tuple[Point, ...]:
    """Train a copy of the model on half A of the forget set, or on text that says nothing of it; measure as it goes."""
    pupil = copy.deepcopy(model).float().requires_grad_(requires_grad=True)
    a, b = (prompts_of(world, tokenizer, half) for half in (world.half_a, world.half_b))
    rng = random.Random(seed)
    loss = _teacher(pupil, regime, a, rows_of(tokenizer, world.filler_new), rng, attack.batch)
    optimizer = torch.optim.Adam(pupil.parameters(), lr=attack.learning_rate)
    points = []
    for step in range(max(attack.checkpoints) + 1):
        if step in attack.checkpoints:
            points.append(_point(pupil, step, a, b))
        if step < max(attack.checkpoints):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    return tuple(points)


def _teacher(pupil: Any, regime: Regime, a: Prompts, text: Any, rng: random.Random, batch: int) -> Callable[[], Tensor]:
    def facts() -> Tensor:
        chosen = draw(rng, len(a), batch)
        return functional.cross_entropy(last_logits(pupil, a, chosen), a.answers_of(chosen))

    def texts() -> Tensor:
        return text_loss(pupil, text, torch.tensor(draw(rng, text.count, batch)))

    return facts if regime == "half A" else texts


@torch.no_grad()
def _point(model: Any, steps: int, a: Prompts, b: Prompts) -> Point:
    return Point(
        steps=steps,
        accuracy_a=answer_accuracy(model, a),
        accuracy_b=answer_accuracy(model, b),
        log_probability_a=_log_probability(model, a),
        log_probability_b=_log_probability(model, b),
    )


def _log_probability(model: Any, prompts: Prompts) -> float:
    logits = last_logits(model, prompts, range(len(prompts)))
    answers = prompts.answers_of(range(len(prompts)))[:, None]
    return float(logits.log_softmax(-1).gather(1, answers).mean())


def models_of(found: Sequence[Measured]) -> tuple[str, ...]:
    """Return the names of the measured models, in their order."""
    return tuple(dict.fromkeys(one.model for one in found))
