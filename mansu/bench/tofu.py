"""TOFU's metrics (Maini et al., 2024, arXiv 2401.06121), as the paper and its published code define them.

With P(a | q) the probability of all tokens of an answer and |a| their number, an answer counts by P(a | q)^(1/|a|).

- Truth ratio of a question: wrong answers' mean over the paraphrased right answer's. For forget quality the mean is
  geometric (the code's `get_forget_quality`), for utility arithmetic (the code's `get_model_utility`, and the paper).
- Forget quality: the p-value of a two-sample Kolmogorov-Smirnov test between the truth ratios of the unlearned model
  and those of one that never saw the forget set. (The code tests the reciprocals: the same p-value.)
- Model utility: the harmonic mean of nine numbers: probability, ROUGE-L recall and truth ratio, max(0, 1 - R), on the
  retain set, real authors and world facts. On the latter two, probability is the right answer's share of all answers'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mansu.bench.completions import ask, complete, greedy, mean_log_probabilities
from mansu.bench.extras import extra
from mansu.bench.loaders import Perturbed
from verify.errors import UsageError

_GENERATED = 64


@dataclass(frozen=True, slots=True)
class ForgetQuality:
    """The Kolmogorov-Smirnov test; a p-value near 1 means the two models cannot be told apart by their truth ratios."""

    p_value: float
    statistic: float


@dataclass(frozen=True, slots=True)
class SetScores:
    """A model on one set of questions, each a mean over them in [0, 1]: higher is better."""

    probability: float
    rouge_l_recall: float
    truth_ratio: float


@dataclass(frozen=True, slots=True)
class Utility:
    """A model on the three sets that must not suffer."""

    retain: SetScores
    real_authors: SetScores
    world_facts: SetScores

    @property
    def harmonic_mean(self) -> float:
        """TOFU's model utility: the harmonic mean of the nine scores; 0 if one of them is 0."""
        parts = (self.retain, self.real_authors, self.world_facts)
        scores = [value for part in parts for value in (part.probability, part.rouge_l_recall, part.truth_ratio)]
        return len(scores) / sum(1 / value for value in scores) if min(scores) > 0 else 0.0


def truth_ratios(model: Any, tokenizer: Any, rows: Sequence[Perturbed]) -> NDArray[np.float64]:
    """Return each question's truth ratio with the geometric mean of its wrong answers, float64 `[n]`."""
    right, wrong = _answers(model, tokenizer, rows)
    return np.exp(np.array([each.mean() for each in wrong]) - right)


def forget_quality(unlearned: NDArray[np.float64], retained: NDArray[np.float64]) -> ForgetQuality:
    """Compare the truth ratios of an unlearned model with those of the model retrained without the forget set.

    Raises `UsageError` ME323 when scipy is not installed.
    """
    stats = extra("scipy.stats", "scipy", "forget quality")
    found = stats.ks_2samp(unlearned, retained)
    return ForgetQuality(float(found.pvalue), float(found.statistic))


def set_scores(
    model: Any, tokenizer: Any, rows: Sequence[Perturbed], *, normalized: bool, tokens: int = _GENERATED, size: int = 1
) -> SetScores:
    """Score a model on one set; `normalized` for real authors and world facts (see the module).

    At most `tokens` tokens are generated for ROUGE, of `size` answers at once. Raises `UsageError` ME323 when
    rouge-score is not installed.
    """
    right, wrong = _answers(model, tokenizer, rows)
    ratio = np.array([np.exp(each).mean() for each in wrong]) / np.exp(right)
    prompts = [ask(row.question) for row in rows]
    answers = [row.answer for row in rows]
    told = np.exp(mean_log_probabilities(model, complete(tokenizer, zip(prompts, answers, strict=True))))
    if normalized:
        told = told / (told + np.array([np.exp(each).sum() for each in wrong]))
    recalls = rouge_l_recalls(greedy(model, tokenizer, prompts, tokens=tokens, size=size), answers)
    return SetScores(float(told.mean()), float(np.mean(recalls)), float(np.maximum(0, 1 - ratio).mean()))


def rouge_l_recalls(said: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return the ROUGE-L recall of each text against its reference, words stemmed as in TOFU's code.

    Raises `UsageError` ME323 when rouge-score is not installed.
    """
    scorer = extra("rouge_score.rouge_scorer", "rouge-score", "ROUGE").RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(said, references, strict=True)
    return [float(scorer.score(reference, text)["rougeL"].recall) for text, reference in pairs]


def model_utility(
    model: Any,
    tokenizer: Any,
    *,
    retain: Sequence[Perturbed],
    real_authors: Sequence[Perturbed],
    world_facts: Sequence[Perturbed],
    tokens: int = _GENERATED,
    size: int = 1,
) -> Utility:
    """Score a model on what must not suffer; `.harmonic_mean` is TOFU's one number."""
    return Utility(
        set_scores(model, tokenizer, retain, normalized=False, tokens=tokens, size=size),
        set_scores(model, tokenizer, real_authors, normalized=True, tokens=tokens, size=size),
        set_scores(model, tokenizer, world_facts, normalized=True, tokens=tokens, size=size),
    )


def _answers(
    model: Any, tokenizer: Any, rows: Sequence[Perturbed]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return log P^(1/|a|) of each right answer `[n]`, and of each question's wrong answers."""
    if not rows:
        raise UsageError(
            "there are no questions to score",
            expected="at least one question with wrong answers",
            found="none",
            remedy="give the perturbed split of the benchmark",
            error_id="ME321",
        )
    pairs = [(ask(row.question), answer) for row in rows for answer in (row.right, *row.perturbed_answer)]
    found = mean_log_probabilities(model, complete(tokenizer, pairs))
    starts = np.cumsum([0, *(1 + len(row.perturbed_answer) for row in rows)])
    each = [found[start:stop] for start, stop in pairwise(starts)]
    return np.array([part[0] for part in each]), [part[1:] for part in each]
