"""TOFU's metrics of one edited model: whether it can be told from one that never knew, and what else it still knows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mansu.base import open_base
from mansu.bench.authors import perturbed_rows, real_authors, world_facts
from mansu.bench.loaders import Perturbed
from mansu.bench.study.document import TofuRecord
from mansu.bench.study.taught import Classroom, Course
from mansu.bench.tofu import Utility, forget_quality, model_utility, truth_ratios
from mansu.progress import Steps
from verify.behaviour.loading import Language

ASKED = 100
"""Most questions of a set: whole answers are generated for each."""
_TOKENS = 32
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Gold:
    """The reference's side: the questions, its truth ratios on those to be forgotten float64 `[n]`, and its utility."""

    forget: tuple[Perturbed, ...]
    retain: tuple[Perturbed, ...]
    ratios: NDArray[np.float64]
    utility: Utility


def gold(room: Classroom, course: Course, device: torch.device, *, steps: Steps) -> Gold:
    """Ask the model that never met the authors to be forgotten."""
    authors = course.authors()
    every = perturbed_rows(authors.retain, seed=course.seed)
    retain = every[:: max(1, len(every) // ASKED)][:ASKED]
    forget = perturbed_rows(authors.forget, seed=course.seed)
    with steps.step("Asking the model that never knew", 2) as advance:
        language = open_base(room.gold).language(device)
        ratios = truth_ratios(language.model, language.tokenizer, forget)
        advance(1)
        utility = _utility(language.model, language.tokenizer, retain)
        advance(1)
    return Gold(forget, retain, ratios, utility)


def tofu(edited: Language, reference: Gold, *, steps: Steps) -> TofuRecord:
    """Return forget quality and model utility of an edited model, in full precision.

    Raises `UsageError` ME323 where the extra packages of these metrics are not installed.
    """
    with steps.step("Asking as TOFU does", 2) as advance:
        quality = forget_quality(truth_ratios(edited.model, edited.tokenizer, reference.forget), reference.ratios)
        advance(1)
        utility = _utility(edited.model, edited.tokenizer, reference.retain)
        advance(1)
    return TofuRecord(
        forget_quality=quality.p_value,
        statistic=quality.statistic,
        utility=utility.harmonic_mean,
        reference_utility=reference.utility.harmonic_mean,
    )


def _utility(model: Any, tokenizer: Any, retain: tuple[Perturbed, ...]) -> Utility:
    return model_utility(
        model,
        tokenizer,
        retain=retain,
        real_authors=real_authors(),
        world_facts=world_facts(),
        tokens=_TOKENS,
        size=_AT_ONCE,
    )
