"""Does a number measured before relearning rank the models as their relearning does?

Models of one seed share a base, and one method gives much the same model in every seed. So ranks are compared within
a seed, and chance is judged by exchanging whole methods, the same ones in all seeds: with m methods there are m! ways,
however many seeds were run.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.relearning.measuring import Measured, models_of

Number = Callable[[Measured], float]
_EXACT = 8  # up to 8 methods every order is tried, 40,320 of them
_SAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's correlation: `within` a seed, mean over seeds, with the range of a bootstrap over seeds (95 %).

    `p_methods`: share of exchanges of methods with a correlation as far from 0 (two-sided). `pooled`: over all models
    and seeds at once. `same_method`: among the seeds of one method, mean over methods; `p_seeds` exchanges seeds there.
    What compares seeds is None where there is only one.
    """

    predictor: str
    outcome: str
    methods: int
    seeds: int
    within: float
    low: float | None
    high: float | None
    p_methods: float
    pooled: float
    same_method: float | None
    p_seeds: float | None


def agreement(
    found: Sequence[Measured], predictor: tuple[str, Number], outcome: tuple[str, Number], *, seed: int = 0
) -> Agreement:
    """Correlate two numbers over models and seeds; every model must be measured in every seed."""
    x, y = (table(found, number) for _, number in (predictor, outcome))
    seeds, methods = x.shape
    rng = np.random.default_rng(seed)
    by_seed = np.array([spearman(one, two) for one, two in zip(x, y, strict=True)])
    draws = by_seed[rng.integers(seeds, size=(2000, seeds))].mean(1)
    by_method = np.array([spearman(one, two) for one, two in zip(x.T, y.T, strict=True)])
    low, high = np.quantile(draws, (0.025, 0.975))
    several = seeds > 1
    return Agreement(
        predictor=predictor[0],
        outcome=outcome[0],
        methods=methods,
        seeds=seeds,
        within=float(by_seed.mean()),
        low=float(low) if several else None,
        high=float(high) if several else None,
        p_methods=exchange(x, y, rng),
        pooled=spearman(x.ravel(), y.ravel()),
        same_method=float(by_method.mean()) if several else None,
        p_seeds=_shuffled(x.T, y.T, rng) if several else None,
    )


def table(found: Sequence[Measured], number: Number) -> NDArray[np.float64]:
    """Return a number as float64 [seeds, models]."""
    names, seeds = models_of(found), sorted({one.seed for one in found})
    values = {(one.seed, one.model): number(one) for one in found}
    return np.array([[values[seed, name] for name in names] for seed in seeds])


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[inverse], dtype=np.float64)


def spearman(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation; 0 where either is constant."""
    return float(_standard(one) @ _standard(two))


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks, centred, of length 1."""
    centred = ranks(values) - (len(values) + 1) / 2
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 0 else centred


def exchange(x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the two-sided p of the mean correlation within rows if columns of `x` change places in all rows alike."""
    products = sum(np.outer(_standard(one), _standard(two)) for one, two in zip(x, y, strict=True))
    methods = x.shape[1]
    columns = np.arange(methods)
    if methods <= _EXACT:
        orders = np.array(list(itertools.permutations(range(methods))))
    else:
        orders = np.array([columns, *(rng.permutation(methods) for _ in range(_SAMPLES))])
    sums = np.abs(np.asarray(products)[orders, columns].sum(1))
    return float((sums >= abs(np.trace(products)) - 1e-9).mean())


def _shuffled(x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the two-sided p of the mean correlation within rows when each row of `x` is shuffled on its own."""
    one = np.array([_standard(row) for row in x])
    two = np.array([_standard(row) for row in y])
    found = abs(float((one * two).sum()))
    sums = [abs(float((rng.permuted(one, axis=1) * two).sum())) for _ in range(_SAMPLES // 10)]
    return (1 + sum(value >= found - 1e-9 for value in sums)) / (1 + len(sums))
