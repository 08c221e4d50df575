"""What the engine says it reached, from its own claims."""

from mansu.seal.claims import forget_accuracy
from verify.contract.manifest import Claim
from verify.contract.schema import Estimate


def claim(row: str, value: float, n: int, *, axis: str = "forgetting", precision: str = "full") -> Claim:
    estimate = Estimate(value=value, low=value, high=value, n=n)
    return Claim(axis=axis, row=row, precision=precision, estimate=estimate)


def test_the_rows_that_decide_count_by_their_probes() -> None:
    claims = [
        claim("a, held-out wordings", 0.1, 30),
        claim("b, held-out wordings", 0.5, 10),
        claim("a, held-out facts", 0.9, 100),
        claim("a, held-out wordings", 0.7, 40, precision="nf4"),
        claim("a", 0.9, 100, axis="retention"),
    ]
    assert forget_accuracy(claims, "full") == (0.1 * 30 + 0.5 * 10) / 40
    assert forget_accuracy(claims, "nf4") == 0.7


def test_without_held_out_wordings_held_out_facts_count() -> None:
    assert forget_accuracy([claim("a, held-out facts", 0.25, 8)], "full") == 0.25
