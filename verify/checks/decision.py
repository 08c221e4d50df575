"""The decision rule of a threshold: which side of a measured value's 95 % interval is held against it.

"point" holds the value itself against the bound, "interval" the interval's worse end too, so that all of it satisfies,
"overlap" the better end: only what the interval rules out is refused. The value always counts as part of its interval
(a bootstrap interval may leave it out), so that each rule implies the next weaker one.
"""

from verify.contract.policy import Rule
from verify.contract.schema import Estimate

_WORDS: dict[Rule, str] = {
    "point": "",
    "interval": ", with the whole 95 % interval",
    "overlap": ", or the 95 % interval reaches it",
}


def upper(estimate: Estimate, rule: Rule) -> float:
    """Return the number that must not exceed an upper bound."""
    return {
        "point": estimate.value,
        "interval": max(estimate.value, estimate.high),
        "overlap": min(estimate.value, estimate.low),
    }[rule]


def lower(estimate: Estimate, rule: Rule) -> float:
    """Return the number that must not fall short of a lower bound."""
    return {
        "point": estimate.value,
        "interval": min(estimate.value, estimate.low),
        "overlap": max(estimate.value, estimate.high),
    }[rule]


def at_most(bound: float, rule: Rule, first: Estimate, *others: Estimate) -> bool:
    """Tell whether every estimate satisfies an upper bound; of none, nothing can be said."""
    return all(upper(estimate, rule) <= bound for estimate in (first, *others))


def at_least(bound: float, rule: Rule, first: Estimate, *others: Estimate) -> bool:
    """Tell whether every estimate satisfies a lower bound; of none, nothing can be said."""
    return all(lower(estimate, rule) >= bound for estimate in (first, *others))


def words(rule: Rule) -> str:
    """Return what a rule adds to the sentence that states a bound."""
    return _WORDS[rule]
