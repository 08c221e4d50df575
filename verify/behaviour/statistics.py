"""Intervals: what a count of probes can and cannot say. All are 95 % and two-sided."""

import math

import torch
from torch import Tensor

from verify.contract.schema import Estimate

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def proportion(correct: Tensor) -> Estimate:
    """Return the share of true values with its Wilson score interval (Wilson 1927); `correct` is bool `[n]`, n ≥ 1."""
    n = correct.numel()
    share = float(correct.double().mean())
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    # exactly 0 where nothing is true, and 1 where all is: rounding must not put the share outside its interval
    return Estimate(value=share, low=min(share, max(0.0, centre - half)), high=max(share, min(1.0, centre + half)), n=n)


def paired_difference(after: Tensor, before: Tensor) -> Estimate:
    """Return share(after) − share(before) on the same probes, with the Bonett-Price adjusted Wald interval (2012).

    `after` and `before` are bool `[n]`. The value is the plain difference; the interval adds one to each discordant
    count, so that it stays honest when there are few.
    """
    n = after.numel()
    gained, lost = int((after & ~before).sum()), int((~after & before).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Estimate(value=(gained - lost) / n, low=max(-1.0, up - down - half), high=min(1.0, up - down + half), n=n)


def perplexity(nll: Tensor, tokens: Tensor, *, seed: int = 0, samples: int = 1000) -> Estimate:
    """Return exp(total nll / total tokens) with a bootstrap interval over texts.

    `nll` is float64 `[texts]`, the summed negative log-likelihood of each text in nats; `tokens` int64 `[texts]`.
    """
    picks = _resample(nll.numel(), samples, seed)
    drawn = (nll[picks].sum(1) / tokens[picks].sum(1)).exp()
    value = math.exp(float(nll.sum()) / float(tokens.sum()))
    return _percentiles(value, drawn, nll.numel())


def perplexity_rise(after: Tensor, before: Tensor, tokens: Tensor, *, seed: int = 0, samples: int = 1000) -> Estimate:
    """Return ppl(after) / ppl(before) − 1 on the same texts, with a paired bootstrap interval over texts."""
    picks = _resample(after.numel(), samples, seed)
    gap = after - before
    drawn = (gap[picks].sum(1) / tokens[picks].sum(1)).exp() - 1
    return _percentiles(math.expm1(float(gap.sum()) / float(tokens.sum())), drawn, after.numel())


def _resample(n: int, samples: int, seed: int) -> Tensor:
    return torch.randint(n, (samples, n), generator=torch.Generator().manual_seed(seed))


def _percentiles(value: float, drawn: Tensor, n: int) -> Estimate:
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Estimate(value=value, low=low, high=high, n=n)
