"""CAD, Circuit Attribution Divergence: how far a model's edge scores have moved from a reference's.

With s⁰ and s¹ the scores of the reference and the other model on the same pairs,
CAD = 1 − Σ min / Σ max over signed cells: the positive and the negative part of each edge are separate cells (a signed
weighted Jaccard distance). It lies in [0, 1]: 0 identical; 1 vanished, disjoint or inverted. This definition is ours
(docs/cad.md): the formula of arXiv 2605.15138 could not be read.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.circuits.circuit import Circuit
from verify.circuits.scores import EdgeScores
from verify.errors import UndecidedError, UsageError

# Resampled score rows held at once; bounds the memory of a bootstrap over all edges.
_CHUNK_CELLS = 1 << 23
_TOP_SHARE = 0.1


@dataclass(frozen=True)
class Divergence:
    """CAD and its companions over the cells of a circuit.

    `rho` ⟨s⁰,s¹⟩/⟨s⁰,s⁰⟩: below zero, inverted. `mass` Σ|s¹|/Σ|s⁰|. `relative_l1` Σ|s¹−s⁰|/Σ|s⁰|: 0 same, 1 vanished,
    above 1 inverted. Secondary, each blind to one case: `one_minus_cosine`; `jensen_shannon` of |s|, base 2, in [0, 1];
    `top_jaccard` of the top tenth of cells by |s|; `spearman` of |s|. `cells`: how many edges were compared.
    """

    cad: float
    rho: float
    mass: float
    relative_l1: float
    one_minus_cosine: float
    jensen_shannon: float
    top_jaccard: float
    spearman: float
    cells: int


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided percentile interval at `level`.

    Noise in a resample adds to CAD and never cancels, so its interval may lie above the estimate.
    """

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of a paired bootstrap over `pairs` examples."""

    cad: Interval
    rho: Interval
    mass: Interval
    pairs: int
    samples: int


def cad(reference: Tensor, other: Tensor, circuit: Circuit | None = None) -> float:
    """Return CAD of two score matrices [writers, readers], over the cells of `circuit` or over all.

    Two all-zero sets of scores are identical: 0. Raises `UsageError` when shapes differ, `UndecidedError` when a score
    is not finite.
    """
    before, after = _cells(reference, circuit), _cells(other, circuit)
    _check(before, after)
    return _finite(_cad(before, after))


def compare(reference: EdgeScores, other: EdgeScores, circuit: Circuit | None = None) -> Divergence:
    """Compare two models' scores on the same pairs with the same integration points.

    Raises `UsageError` when the two are not paired so, `UndecidedError` when a score, a sum or a ratio is not finite or
    the reference has no mass on the circuit.
    """
    if (reference.graph, reference.rule, reference.points) != (other.graph, other.rule, other.points):
        raise UsageError("scores can be compared only on one graph and with the same integration points")
    if reference.pairs != other.pairs:
        raise UsageError("scores can be compared only on the same pairs, in the same order")
    chosen = Circuit(reference.graph, reference.real) if circuit is None else circuit
    before, after = _cells(reference.scores, chosen), _cells(other.scores, chosen)
    _check(before, after)
    mass, square = before.abs().sum(), before.square().sum()
    _check_mass(float(square))
    return Divergence(
        cad=_finite(_cad(before, after)),
        rho=_finite((before * after).sum() / square),
        mass=_finite(after.abs().sum() / mass),
        relative_l1=_finite((after - before).abs().sum() / mass),
        one_minus_cosine=1 - _cosine(before, after),
        jensen_shannon=_jensen_shannon(before.abs(), after.abs()),
        top_jaccard=_top_jaccard(before.abs(), after.abs()),
        spearman=_correlation(_ranks(before.abs()), _ranks(after.abs())),
        cells=before.numel(),
    )


def bootstrap(
    reference: Tensor, other: Tensor, circuit: Circuit | None, *, samples: int = 1000, seed: int, level: float = 0.95
) -> Bootstrap:
    """Resample the examples, the same ones in both models; return intervals for CAD, ρ and mass of their means.

    `reference`, `other`: per-example scores [pairs, writers, readers]. Raises `UsageError` for unequal shapes, fewer
    than two examples or an invalid level, `UndecidedError` as `compare` does.
    """
    before, after = _cells(reference, circuit), _cells(other, circuit)
    _check(before, after)
    count = _check_examples(before)
    if samples < 1 or not 0 < level < 1:
        raise UsageError("a bootstrap needs samples, and a level in (0, 1)", found=f"{samples} samples, level {level}")
    estimate_before, estimate_after = before.mean(0), after.mean(0)
    _check_mass(float(estimate_before.square().sum()))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(count, (samples, count), generator=generator)
    shares = torch.zeros(samples, count).scatter_add_(1, draws, torch.full((samples, count), 1 / count))
    cads, rhos, masses = [], [], []
    for part in torch.split(shares, max(1, _CHUNK_CELLS // max(1, before.shape[1]))):
        one, two = part @ before, part @ after
        cads.append(_cad(one, two))
        rhos.append((one * two).sum(-1) / one.square().sum(-1))
        masses.append(two.abs().sum(-1) / one.abs().sum(-1))
    rho = (estimate_before * estimate_after).sum() / estimate_before.square().sum()
    mass = estimate_after.abs().sum() / estimate_before.abs().sum()
    return Bootstrap(
        cad=_interval(_finite(_cad(estimate_before, estimate_after)), torch.cat(cads), level),
        rho=_interval(_finite(rho), torch.cat(rhos), level),
        mass=_interval(_finite(mass), torch.cat(masses), level),
        pairs=count,
        samples=samples,
    )


def split_half_floor(per_example: Tensor, circuit: Circuit | None, seed: int, *, splits: int = 50) -> float:
    """Return the mean CAD between the means of two random halves of one model's examples: its sampling noise.

    `per_example` [pairs, writers, readers]. Errors as in `bootstrap`.
    """
    cells = _cells(per_example, circuit)
    _check(cells, cells)
    half = _check_examples(cells) // 2
    generator = torch.Generator().manual_seed(seed)
    floors = []
    for _ in range(splits):
        order = torch.randperm(len(cells), generator=generator)
        floors.append(_cad(cells[order[:half]].mean(0), cells[order[half : 2 * half]].mean(0)))
    return _finite(torch.stack(floors).mean())


def _cells(scores: Tensor, circuit: Circuit | None) -> Tensor:
    """Return the circuit's cells of [.., writers, readers] as float32 [.., cells]."""
    if circuit is None:
        return scores.float().flatten(-2) if scores.dim() > 1 else scores.float()
    if scores.shape[-2:] != circuit.edges.shape:
        raise UsageError(
            "scores and circuit belong to different graphs",
            expected=str(tuple(circuit.edges.shape)),
            found=str(tuple(scores.shape[-2:])),
        )
    return scores.float()[..., circuit.edges]


def _check(before: Tensor, after: Tensor) -> None:
    if before.shape != after.shape:
        raise UsageError(
            "the two sets of scores have different shapes",
            expected=str(tuple(before.shape)),
            found=str(tuple(after.shape)),
        )
    if not bool(before.isfinite().all() and after.isfinite().all()):
        raise UndecidedError("an edge score is not finite, so no divergence can be computed")


def _check_mass(square: float) -> None:
    if square == 0:
        raise UndecidedError("the reference has no score on the circuit, so nothing can have diverged from it")


def _finite(value: Tensor) -> float:
    """Return a number; scores that are finite can still have sums or ratios that are not."""
    number = float(value)
    if not math.isfinite(number):
        raise UndecidedError("edge scores are too large or too small to be compared", found=str(number))
    return number


def _check_examples(cells: Tensor) -> int:
    if cells.dim() != 2 or len(cells) < 2:
        raise UsageError(
            "resampling needs the scores of at least two examples",
            expected="[pairs, writers, readers]",
            found=str(tuple(cells.shape)),
        )
    return len(cells)


def _cad(before: Tensor, after: Tensor) -> Tensor:
    """CAD over the last dimension."""
    positive, negative = before.clamp(min=0), before.clamp(max=0)
    other_positive, other_negative = after.clamp(min=0), after.clamp(max=0)
    overlap = torch.minimum(positive, other_positive).sum(-1) - torch.maximum(negative, other_negative).sum(-1)
    union = torch.maximum(positive, other_positive).sum(-1) - torch.minimum(negative, other_negative).sum(-1)
    return torch.where(union > 0, 1 - overlap / union, torch.zeros_like(union))


def _interval(estimate: float, draws: Tensor, level: float) -> Interval:
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2])
    finite = draws[draws.isfinite()]
    if not finite.numel():
        raise UndecidedError("no resample of the pairs gives a divergence, so it has no interval")
    low, high = torch.quantile(finite, tails).tolist()
    return Interval(estimate, low, high, level)


def _cosine(before: Tensor, after: Tensor) -> float:
    """Cosine; 0 when either vanished."""
    norms = float(before.norm() * after.norm())
    return float((before * after).sum()) / norms if norms > 0 else 0.0


def _jensen_shannon(before: Tensor, after: Tensor) -> float:
    """Jensen-Shannon divergence of two non-negative vectors as distributions, base 2; 1 when `after` vanished."""
    if float(after.sum()) == 0:
        return 1.0
    p, q = before.double() / before.double().sum(), after.double() / after.double().sum()
    middle = (p + q) / 2
    nats = (torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle)).nan_to_num(0.0).sum() / 2
    return min(1.0, max(0.0, float(nats) / math.log(2)))


def _top_jaccard(before: Tensor, after: Tensor) -> float:
    """Jaccard index of the two sets of largest cells."""
    k = max(1, round(before.numel() * _TOP_SHARE))
    one, two = (set(values.topk(k).indices.tolist()) for values in (before, after))
    return len(one & two) / len(one | two)


def _ranks(values: Tensor) -> Tensor:
    """Ranks in float64, ties sharing their mean rank."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: Tensor = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return mean_ranks[inverse]


def _correlation(one: Tensor, two: Tensor) -> float:
    """Pearson correlation; 0 when either is constant."""
    return _cosine(one - one.mean(), two - two.mean())
