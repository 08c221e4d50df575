"""The tradeoff of a certificate: what an update of a given size could reach at most, and what this edit reached.

A bound for the reader, from the weights alone; no check rests on it.
"""

import math
from collections.abc import Sequence

import numpy as np

from verify.checks.evidence import Evidence
from verify.checks.permanence import casts_of, geometry_of, named
from verify.contract.manifest import Profile
from verify.contract.policy import Policy
from verify.contract.result import Tradeoff
from verify.nf4.reach import Reach

_PER_DECADE = 4
_DECADES = 8
"""Norms below the largest one that the curve goes back at most."""


def curve_profile(profiles: Sequence[Profile], stored: str, policy: Policy) -> Profile | None:
    """Return the profile for which updates are bounded: the weights as stored, nothing skipped; None without one.

    Of several, the first with blocks of the policy's size, else the first.
    """
    usual = [entry for entry in profiles if entry.skip is None and entry.cast in casts_of(stored, stored)]
    return next((entry for entry in usual if entry.block_size == policy.block_size), next(iter(usual), None))


def curve(evidence: Evidence, policy: Policy) -> Tradeoff | None:
    """Return the bound as a curve, with this edit's place below it; None where no profile is claimed that it is for."""
    profile = curve_profile(evidence.statement.predicate.profiles, evidence.stored, policy)
    if profile is None:
        return None
    reach = Reach.of(evidence.scan.scales, evidence.stored)
    geometry = geometry_of(profile)
    norm = math.sqrt(evidence.scan.squares)
    budgets = _budgets(reach, norm)
    # a tensor that only another profile quantizes may have been judged in the same blocks: the bound is not of it
    bounded = {entry.name for entry in evidence.architecture.quantized[profile.skip]}
    tallies = [found for name, found in evidence.scan.tallies.items() if name in bounded]
    even = norm / math.sqrt(reach.total) if reach.total else 0.0
    middle = reach.middle()
    return Tradeoff(
        profile=named(profile),
        quantized_parameters=reach.total,
        budgets=tuple(budgets.tolist()),
        at_most=tuple(reach.at_most(budgets).tolist()),
        norm=norm,
        surviving=sum(found[geometry].survive for found in tallies if geometry in found),
        bound=int(reach.at_most(np.array([norm]))[0]),
        even_move=even,
        even_in_half_bins=even / middle if middle else 0.0,
        even_at_most=reach.within(even),
    )


def _budgets(reach: Reach, norm: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return norms, a few a decade, from where the bound is 0 to where it is everything, this edit's among them."""
    whole = max(reach.whole(), norm)
    if whole <= 0:
        return np.empty(0)
    top = math.ceil(math.log10(whole) * _PER_DECADE)
    grid = 10.0 ** (np.arange(top - _DECADES * _PER_DECADE, top + 1) / _PER_DECADE)
    first = int(np.searchsorted(reach.at_most(grid), 1))
    lowest = min(max(0, first - 1), max(0, int(np.searchsorted(grid, norm)) - 1))
    kept: np.ndarray[tuple[int], np.dtype[np.float64]] = np.unique(np.append(grid[lowest:], norm))
    return kept
