"""Relearning: fine-tune on half of what was forgotten, or on unrelated text, and measure what returns on the rest.

A lower bound of what is still there: one attack, one rate. The base's own curve says what the fine-tuning alone does.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional

from mansu.baselines.training import descend
from mansu.baselines.weights import dense
from mansu.bench.robust.cloze import source
from mansu.bench.robust.results import Kind, RelearningPoint
from mansu.data.examples import Prompts, Texts, answers_right, cut_texts, draw, last_logits, tokenize_facts
from mansu.precision import products
from mansu.request import Fact, Request, pools
from verify.behaviour.loading import Language, variant
from verify.behaviour.modules import nf4_linears
from verify.behaviour.statistics import proportion
from verify.errors import UsageError

Lesson: TypeAlias = Prompts | Texts
"""What is taught: the first tokens of answers after prompts, or every token of texts."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Adam at a constant rate on every weight that NF4 quantizes, in float32; 130 to 140 tokens a batch.

    `steps` are the checkpoints, ascending; 0 comes first of itself. At most `most` probes are measured at each.
    """

    rate: float = 2e-5
    prompts: int = 12
    texts: int = 4
    length: int = 32
    steps: tuple[int, ...] = (1, 3, 10, 30, 100)
    most: int = 100


@dataclass(frozen=True, slots=True)
class Halves:
    """The facts that a method trained on, half and half: A in the wordings trained on, B in the held-out ones."""

    taught: tuple[Fact, ...]
    measured: tuple[Fact, ...]


def halves(request: Request, *, seed: int) -> Halves:
    """Split the trained facts, the same for every model; raises `UsageError` ME355 where there are no two of them.

    A set with one wording of each fact has no held-out wordings: then A is what was trained on, B its held-out facts.
    """
    asked = source(request, seed=seed)
    held_out = {(fact.group, fact.fact) for fact in asked.facts}
    train = request.forget.train
    names = sorted(held_out & {(fact.group, fact.fact) for fact in train})
    if not names:
        return Halves(train, asked.facts)
    if len(names) == 1:
        raise _too_few()
    asked.rng("halves").shuffle(names)
    a = set(names[: len(names) // 2])
    return Halves(
        tuple(fact for fact in train if (fact.group, fact.fact) in a),
        tuple(fact for fact in asked.facts if (fact.group, fact.fact) not in a),
    )


def relearn(
    language: Language, request: Request, *, kind: Kind, seed: int, recipe: Recipe | None = None
) -> tuple[RelearningPoint, ...]:
    """Fine-tune a copy of a model and measure it as it goes.

    "facts": on half A of the trained facts, measured on half B in held-out wordings. "text": on the held-out prose,
    measured on all trained facts in held-out wordings. The same lessons in the same order for every model of a seed.

    Raises `UsageError` ME355 (nothing to ask, or no two facts), ME356 (no text), `FloatingPointError` where the model
    breaks.
    """
    chosen = recipe or Recipe()
    asked = source(request, seed=seed, most=chosen.most)
    if kind == "facts":
        half = halves(request, seed=seed)
        lesson: Lesson = _prompts(language, request, half.taught)
        measured = asked.sample(half.measured, "relearning")
    else:
        lesson = _texts(language, request, chosen.length)
        measured = asked.sample(asked.facts, "relearning")
    return curve(language, lesson, _prompts(language, request, measured), kind=kind, seed=seed, recipe=chosen)


def curve(
    language: Language, lesson: Lesson, measured: Prompts, *, kind: Kind, seed: int, recipe: Recipe
) -> tuple[RelearningPoint, ...]:
    """Teach a copy of a model a lesson; return its accuracy on `measured` at 0 steps and at each checkpoint."""
    points: list[RelearningPoint] = []
    model = _copy(language).model

    def measure(steps: int) -> None:
        with products("float32"):
            points.append(RelearningPoint(kind=kind, steps=steps, estimate=proportion(answers_right(model, measured))))

    def loss(batch: Sequence[int]) -> Tensor:
        if isinstance(lesson, Texts):
            ids = lesson.ids[list(batch)]
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            return functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])
        logits = last_logits(model, lesson, batch)
        return functional.cross_entropy(logits, lesson.answers_of(batch, logits.device))

    draws = _draws(lesson, recipe, seed, measure)
    with dense(model) as parameters, products("bfloat16"):
        descend(parameters, loss, draws, recipe.rate)
    return tuple(points)


def _draws(lesson: Lesson, recipe: Recipe, seed: int, measure: Callable[[int], None]) -> Iterator[list[int]]:
    """Yield a batch for each step, and measure at the checkpoints between them."""
    rng = random.Random(f"relearning {seed}")  # noqa: S311  (batches, not secrets)
    size, batch = (lesson.ids.shape[0], recipe.texts) if isinstance(lesson, Texts) else (len(lesson), recipe.prompts)
    last = max(recipe.steps)
    for step in range(last + 1):
        if step == 0 or step in recipe.steps:
            measure(step)
        if step < last:
            yield draw(rng, size, batch)


def _copy(language: Language) -> Language:
    """Return a model whose linear weights are its own; it shares the others, which are not trained."""
    weights = {f"{name}.weight": layer.weight.detach().clone() for name, layer in nf4_linears(language.model).items()}
    return variant(language, weights)


def _prompts(language: Language, request: Request, facts: Sequence[Fact]) -> Prompts:
    pool_of = pools(request.forget.every())
    return tokenize_facts(language.tokenizer, facts, pool_of)


def _texts(language: Language, request: Request, length: int) -> Texts:
    texts = cut_texts(language.tokenizer, request.prose_held_out, length=length)
    if texts is None:
        raise UsageError(
            "there is no text to fine-tune on",
            expected=f"held-out prose of at least {length} tokens",
            found=f"{len(request.prose_held_out)} pieces of prose",
            remedy='add lines of {"text"} to the retain set: half of them is held out',
            error_id="ME356",
        )
    return Texts(texts.ids.to(language.device))


def _too_few() -> UsageError:
    return UsageError(
        "one fact cannot be halved",
        expected="two facts that were trained on, or more",
        found="one",
        remedy="write more facts",
        error_id="ME355",
    )
