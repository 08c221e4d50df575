"""What an edit withstands: other ways of asking, and fine-tuning that may bring back what was forgotten."""

from mansu.bench.robust import Recipe, RelearningPoint, RobustRow, relearn, robust_rows, spoken_languages
from mansu.bench.study.document import RelearningRecord, RobustRecord
from mansu.bench.study.training import Opened
from mansu.bench.suites import SUITES
from mansu.progress import Steps
from verify.behaviour.loading import Language, nf4_copy

ASKED = 60
"""Most probes of each way of asking, and of each point of relearning: every model is asked all of them twice."""


def robust(edited: Language, opened: Opened, *, steps: Steps) -> RobustRecord:
    """Ask a model in every way, in full precision and after NF4, in the languages that the base understands.

    Raises `UsageError` ME355 where nothing can be asked.
    """
    suite = opened.suite if opened.suite in SUITES else None
    tongues = () if suite is None else spoken_languages(opened.language, opened.request, suite, seed=opened.seed)

    def rows(language: Language) -> tuple[RobustRow, ...]:
        return robust_rows(language, opened.request, suite=suite, tongues=tongues, seed=opened.seed, most=ASKED)

    with steps.step("Asking in other ways", 2) as advance:
        full = rows(edited)
        advance(1)
        nf4 = rows(nf4_copy(edited, opened.base.stored))
        advance(1)
    return RobustRecord(full=full, nf4=nf4)


def relearning(edited: Language, opened: Opened, *, steps: Steps) -> RelearningRecord:
    """Fine-tune a model on half of what was forgotten, and on unrelated text, and measure the rest on the way.

    Raises `UsageError` ME355 or ME356 where there is too little to teach.
    """
    recipe = Recipe(most=ASKED)
    points: list[RelearningPoint] = []
    with steps.step("Teaching it again", 2) as advance:
        for kind in ("facts", "text"):
            points += relearn(edited, opened.request, kind=kind, seed=opened.seed, recipe=recipe)
            advance(1)
    return RelearningRecord(rate=recipe.rate, points=tuple(points))
