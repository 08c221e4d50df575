"""The controls of a calibration: how each is made, and in which order they are measured.

Five are controls of CAD (docs/cad.md): the base under NF4, a random edit and a fine-tune on the retain set erase
nothing; two more are muted in the head and in the last MLP.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mansu.base import Base, open_base, open_language
from mansu.calibration.bench import Bench, measured
from mansu.calibration.document import Role, Row
from mansu.calibration.training import Muting, Recipe, fine_tuned, head_only, last_mlp_only, muted
from mansu.config import Config
from mansu.data.examples import draw, tokenize_facts
from mansu.data.prepare import prepare
from mansu.data.probes import all_pools
from mansu.precision import products
from mansu.progress import Steps
from mansu.request import Request
from mansu.solve.objective import Objective, Sizes, Weights
from verify.behaviour.loading import Language, nf4_copy, variant
from verify.behaviour.modules import nf4_linears
from verify.checks.erasure import BASE_NF4, EDITED, RANDOM
from verify.checks.erasure_rule import in_words
from verify.checks.models import random_moves
from verify.checks.study import SEED
from verify.circuits import describe
from verify.errors import UndecidedError, UsageError

FINE_TUNED = "retain fine-tune"
RANDOM_MASK = "random edit of the mask's size"
HEAD, LAST_MLP = "muting the head alone", "muting the last MLP alone"

_SIZES = Sizes(forget=32, retain=24, text=4)
_LOOKED_AT = 80  # prompts that tell when to stop


@dataclass(frozen=True, slots=True)
class Plan:
    """What the controls are made from; `margin` is that of the random edit's levels."""

    base: Base
    request: Request
    config: Config
    recipe: Recipe
    margin: float


@dataclass(frozen=True, eq=False)
class Edited:
    """The edited model, its files' digests, and the flat indices of what differs in its linear layers, by tensor."""

    digests: Mapping[str, str]
    language: Language
    moved: Mapping[str, Tensor]


def open_edited(folder: Path, base: Language) -> Edited:
    """Open the edited model; raises `UsageError` ME210 for its folder, ME241 where its shape is not the base's."""
    opened = open_base(folder)
    language, family = open_language(opened)
    expected = describe(base.model)
    if family != expected:
        raise UsageError(
            "the edited model is not of the base's shape",
            expected=f"{expected.graph}, {expected.vocabulary} tokens",
            found=f"{family.graph}, {family.vocabulary} tokens",
            remedy="give the folder of a model that was made from this base",
            error_id="ME241",
        )
    before, after = nf4_linears(base.model), nf4_linears(language.model)
    moved = {
        f"{name}.weight": indices
        for name in before
        if (indices := (before[name].weight != after[name].weight).reshape(-1).nonzero().reshape(-1)).numel()
    }
    return Edited(opened.digests(), language, moved)


def measure_all(bench: Bench, plan: Plan, edited: Edited | None, *, steps: Steps) -> Iterator[Row]:
    """Make and measure one model after the other; of the controls, one at a time is in memory.

    Raises UndecidedError where a divergence is undefined, or no random edit of the size can be made.
    """

    def row(language: Language, label: str, role: Role, *, nf4: bool = False) -> Row:
        found = measured(bench, language, label, role, nf4=nf4, steps=steps)
        steps.say(
            f"  answers {found.forget.value:.3f} of the forget set; CAD {in_words(found.whole.cad)}, with the base's "
            f"read-out {in_words(found.read_out.cad)}, and its late layers {in_words(found.late.cad)}"
        )
        return found

    language, stored = bench.base, plan.base.stored
    yield row(nf4_copy(language, stored), BASE_NF4, "control", nf4=True)
    label, weights = random_edit(bench, plan, edited)
    yield row(variant(language, weights), label, "control")
    pool_of = all_pools(plan.request)
    facts = plan.request.retain.train
    retain = tokenize_facts(language.tokenizer, facts, pool_of)
    precision = plan.config.training_products
    with steps.step(f"{FINE_TUNED}: training", plan.recipe.fine_tune_steps) as advance, products(precision):
        weights = fine_tuned(language, stored, retain, plan.recipe, seed=plan.config.seed, progress=advance)
    yield row(variant(language, weights), FINE_TUNED, "control")
    muting = _muting(language, plan, steps)
    for label, names in (
        (HEAD, head_only(bench.family)),
        (LAST_MLP, last_mlp_only(bench.family, language.model)),
    ):
        with steps.step(f"{label}: training", plan.recipe.mute_steps) as advance, products(precision):
            weights = muted(language, stored, names, muting, plan.recipe, progress=advance)
        yield row(variant(language, weights), label, "muted")
    if edited is not None:
        yield row(edited.language, EDITED, "edited")
        yield row(nf4_copy(edited.language, stored), EDITED, "edited", nf4=True)


def random_edit(bench: Bench, plan: Plan, edited: Edited | None) -> tuple[str, dict[str, Tensor]]:
    """Return a random edit's label and weights: of the edited model's size in its tensors, else of the mask's.

    The mask's is spread over the layers that the configuration lets the engine edit. An edited model that changed more
    than a mask may hold leaves no room for a random edit beside it.
    """
    parameters = sum(view.count for view in plan.base.weights.tensors().values())
    size = int(plan.config.mask_share * parameters)
    none = torch.zeros(0, dtype=torch.int64)
    if edited is not None and 0 < sum(indices.numel() for indices in edited.moved.values()) <= size:
        label, places = RANDOM, {name: (indices, indices.numel()) for name, indices in edited.moved.items()}
    else:
        counts = {name: bench.base.model.get_parameter(name).numel() for name in _editable(bench, plan.config)}
        total = sum(counts.values())
        label, places = RANDOM_MASK, {name: (none, round(size * n / total)) for name, n in counts.items()}
    generator = torch.Generator().manual_seed(SEED)
    weights = {}
    for name, (excluded, count) in places.items():
        weight = bench.base.model.get_parameter(name).to(plan.base.stored)
        indices, values = random_moves(weight, excluded, margin=plan.margin, generator=generator, count=count)
        if indices.numel() < count:
            found = f"{indices.numel():,} for {count:,} in {name!a}"
            raise UndecidedError("no random edit of that size can be made", found=found)
        moved = weight.to(torch.float32, copy=True)
        moved.view(-1)[indices] = values.float()
        weights[name] = moved
    return label, weights


def _editable(bench: Bench, config: Config) -> list[str]:
    entry = round(config.entry_share * bench.layers)
    read_out = bench.layers - round(config.read_out_share * bench.layers)
    prefixes = tuple(f"{bench.family.layers}.{layer}." for layer in range(entry, read_out))
    return [f"{name}.weight" for name in nf4_linears(bench.base.model) if name.startswith(prefixes)]


def _muting(language: Language, plan: Plan, steps: Steps) -> Muting:
    config = plan.config
    data = prepare(language, plan.base, plan.request, config, steps=steps)
    weights = Weights()  # the control's own: how the engine retains is no part of what it is compared with
    rng = random.Random(config.seed)  # noqa: S311  (batches, not secrets)
    sample = data.forget_validation.subset(draw(rng, len(data.forget_validation), _LOOKED_AT))
    # half the target, as the solver: other wordings are measured
    return Muting(Objective(data.forget, data.retained, weights, _SIZES, rng), sample, config.forget_target / 2)
