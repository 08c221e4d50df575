"""Robust forgetting: other ways to ask for what was forgotten, and fine-tuning that may bring it back."""

from mansu.bench.robust.relearning import Recipe, curve, halves, relearn
from mansu.bench.robust.results import Answers, RelearningPoint, RobustRow, differences
from mansu.bench.robust.rows import robust_answers, robust_rows, spoken_languages

__all__ = [
    "Answers",
    "Recipe",
    "RelearningPoint",
    "RobustRow",
    "curve",
    "differences",
    "halves",
    "relearn",
    "robust_answers",
    "robust_rows",
    "spoken_languages",
]
