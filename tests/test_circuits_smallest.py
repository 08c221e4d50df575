"""The search of the smallest faithful circuit: close, confirmed by larger ones, and within its budget."""

import pytest
from test_circuits_families import tiny, tiny_pairs

from verify.circuits import attribute, faithfulness, smallest_faithful
from verify.circuits.smallest import MAX_EVALUATIONS, _search
from verify.errors import UsageError


def test_smallest_faithful_finds_a_confirmed_circuit() -> None:
    model, pairs = tiny(), tiny_pairs(6)
    scores = attribute(model, pairs)
    seen: list[tuple[int, int]] = []
    found = smallest_faithful(model, scores, pairs, target=0.8, progress=lambda *done: seen.append(done))
    assert found.reached
    assert found.faithfulness >= 0.8
    assert faithfulness(model, pairs, found.circuit) == pytest.approx(found.faithfulness)
    assert len(found.trace) <= MAX_EVALUATIONS
    assert seen == [(done, MAX_EVALUATIONS) for done in range(1, len(found.trace) + 1)]
    chosen = next(step.n for step in found.trace if step.edges == found.circuit.size)
    assert all(step.faithfulness >= 0.8 for step in found.trace if step.n >= chosen)
    assert any(step.faithfulness < 0.8 for step in found.trace if step.n < chosen)
    with pytest.raises(UsageError):
        smallest_faithful(model, scores, pairs, target=1.5)


@pytest.mark.parametrize("threshold", [2, 3, 57, 4000, 70_000, 70_651])
def test_search_is_close_and_within_budget(threshold: int) -> None:
    asked: list[int] = []

    def reaches(n: int) -> bool:
        asked.append(n)
        return n >= threshold

    found = _search(reaches, 70_651, MAX_EVALUATIONS)
    assert threshold <= found <= max(threshold + 1, threshold * 1.06)
    assert len(asked) < MAX_EVALUATIONS


def test_search_passes_over_a_bump() -> None:
    # Faithful in a short range and again from 5000 on: the bump fails its confirmation.
    def reaches(n: int) -> bool:
        return 250 <= n < 280 or n >= 5000

    found = _search(reaches, 70_651, MAX_EVALUATIONS)
    assert found >= 5000
