"""CAD: its properties, its companions, and the resampling around it."""

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_circuits_families import tiny, tiny_pairs

from verify.circuits import (
    EdgeScores,
    Graph,
    attribute,
    bootstrap,
    cad,
    compare,
    random_edges,
    split_half_floor,
    top_edges,
)
from verify.errors import UndecidedError, UsageError

VALUE = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
VECTOR = st.lists(VALUE, min_size=6, max_size=6)
NONZERO = VECTOR.filter(any)


def matrix(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(2, 3)


@given(VECTOR)
def test_identical_scores_have_no_divergence(values: list[float]) -> None:
    assert cad(matrix(values), matrix(values)) == 0


@given(NONZERO)
def test_inverted_and_vanished_scores_diverge_fully(values: list[float]) -> None:
    assert cad(matrix(values), -matrix(values)) == 1
    assert cad(matrix(values), torch.zeros(2, 3)) == 1


@given(NONZERO, st.lists(st.booleans(), min_size=6, max_size=6))
def test_disjoint_scores_diverge_fully(values: list[float], side: list[bool]) -> None:
    one, two = matrix(values) * matrix(side), matrix(values) * ~matrix(side).bool()
    assert cad(one, two) == (1 if bool(one.any() or two.any()) else 0)


@given(VECTOR, VECTOR)
def test_symmetric_and_in_range(one: list[float], two: list[float]) -> None:
    value = cad(matrix(one), matrix(two))
    assert 0 <= value <= 1
    assert value == pytest.approx(cad(matrix(two), matrix(one)), abs=1e-6)


@given(VECTOR, VECTOR, VECTOR)
@settings(max_examples=50)
def test_triangle_inequality(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = matrix(one), matrix(two), matrix(three)
    assert cad(a, c) <= cad(a, b) + cad(b, c) + 1e-5


@given(NONZERO, st.sampled_from([2.0, 4.0]))
def test_scale_shows_as_its_share(values: list[float], factor: float) -> None:
    assert cad(matrix(values), factor * matrix(values)) == pytest.approx(1 - 1 / factor, abs=1e-6)


def test_circuit_restricts_the_cells() -> None:
    graph = Graph(layers=1, heads=2, kv_heads=1)
    circuit = random_edges(graph, 4, 0)
    one = torch.ones(graph.n_writers, graph.n_readers)
    two = torch.where(circuit.edges, one, -one)
    assert cad(one, two, circuit) == 0
    assert 0 < cad(one, two) < 1
    with pytest.raises(UsageError):
        cad(one[1:], two[1:], circuit)
    with pytest.raises(UsageError):
        cad(one, two[1:])
    with pytest.raises(UndecidedError):
        cad(one, two / 0, circuit)


@pytest.fixture(scope="module")
def measured() -> tuple[EdgeScores, EdgeScores]:
    model, pairs = tiny(), tiny_pairs(8)
    before = attribute(model, pairs, points=2, per_example=True)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return before, attribute(model, pairs, points=2, per_example=True)


def test_compare_reads_each_case(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, after = measured
    circuit = top_edges(before, 60)
    same = compare(before, before, circuit)
    assert (same.cad, same.relative_l1, same.top_jaccard, same.cells) == (0, 0, 1, circuit.size)
    assert same.rho == pytest.approx(1)
    assert same.mass == pytest.approx(1)
    assert same.spearman == pytest.approx(1)
    assert same.one_minus_cosine == pytest.approx(0, abs=1e-6)
    assert same.jensen_shannon == pytest.approx(0, abs=1e-9)
    inverted = compare(before, replace(before, scores=-before.scores), circuit)
    assert (inverted.cad, inverted.jensen_shannon) == (1, pytest.approx(0, abs=1e-9))
    assert inverted.rho == pytest.approx(-1)
    assert inverted.relative_l1 == pytest.approx(2)
    assert inverted.one_minus_cosine == pytest.approx(2)
    gone = compare(before, replace(before, scores=0 * before.scores), circuit)
    assert (gone.cad, gone.rho, gone.mass, gone.relative_l1, gone.jensen_shannon) == (1, 0, 0, 1, 1)
    near = compare(before, after, circuit)
    assert 0 < near.cad < 1
    assert near.cad == pytest.approx(cad(before.scores, after.scores, circuit))
    assert compare(before, after).cells == int(before.real.sum())


def test_compare_refuses_unpaired_scores(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, after = measured
    with pytest.raises(UsageError, match="same pairs"):
        compare(before, replace(after, pairs=after.pairs[::-1]))
    with pytest.raises(UsageError, match="integration points"):
        compare(before, replace(after, points=3))
    with pytest.raises(UndecidedError, match="no score"):
        compare(replace(before, scores=0 * before.scores), after)


def test_spearman_shares_ranks_among_ties(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, _ = measured
    # Constant scores have no rank order: no correlation, rather than a spurious one from the order of the cells.
    assert compare(before, replace(before, scores=torch.ones_like(before.scores))).spearman == 0


def test_bootstrap_is_paired_seeded_and_brackets(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, after = measured
    circuit = top_edges(before, 60)
    found = bootstrap(before.per_example, after.per_example, circuit, seed=5)
    assert found == bootstrap(before.per_example, after.per_example, circuit, seed=5)
    assert found != bootstrap(before.per_example, after.per_example, circuit, seed=6)
    assert found.cad.estimate == pytest.approx(cad(before.scores, after.scores, circuit), abs=1e-5)
    assert found.rho.low < found.rho.estimate < found.rho.high
    assert found.cad.low < found.cad.high
    assert found.mass.estimate == pytest.approx(compare(before, after, circuit).mass, abs=1e-5)
    assert found.mass.low < found.mass.estimate < found.mass.high
    assert (found.pairs, found.samples) == (8, 1000)
    # Paired: the same model resamples to itself, whatever the spread between its examples.
    itself = bootstrap(before.per_example, before.per_example, circuit, seed=0)
    assert (itself.cad.low, itself.cad.high) == (0, 0)
    assert itself.rho.low == pytest.approx(1, abs=1e-5)
    assert (itself.mass.low, itself.mass.high) == (1, 1)
    narrow = bootstrap(before.per_example, after.per_example, circuit, seed=5, level=0.5)
    assert narrow.rho.high - narrow.rho.low < found.rho.high - found.rho.low


def test_bootstrap_agrees_with_explicit_resampling(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, after = measured
    found = bootstrap(before.per_example, after.per_example, None, samples=400, seed=1)
    generator = torch.Generator().manual_seed(1)
    draws = torch.randint(8, (400, 8), generator=generator)
    explicit = [cad(before.per_example[row].mean(0), after.per_example[row].mean(0)) for row in draws]
    low, high = torch.quantile(torch.tensor(explicit), torch.tensor([0.025, 0.975])).tolist()
    assert (found.cad.low, found.cad.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_bootstrap_refuses_too_little(measured: tuple[EdgeScores, EdgeScores]) -> None:
    before, after = measured
    with pytest.raises(UsageError, match="at least two"):
        bootstrap(before.per_example[:1], after.per_example[:1], None, seed=0)
    with pytest.raises(UsageError):
        bootstrap(before.per_example, after.per_example[:4], None, seed=0)
    with pytest.raises(UsageError):
        bootstrap(before.per_example, after.per_example, None, seed=0, level=1.0)
    with pytest.raises(UsageError, match="at least two"):
        split_half_floor(before.per_example[:1], None, seed=0)


def test_split_half_floor_is_noise_only() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(1, 10, 12, generator=generator)
    noise = torch.randn(60, 10, 12, generator=generator)
    assert split_half_floor(signal.expand(20, -1, -1), None, seed=0) == pytest.approx(0, abs=1e-5)
    quiet, loud = (split_half_floor(signal + scale * noise, None, seed=0) for scale in (0.3, 3.0))
    assert 0 < quiet < loud < 1
    assert quiet == split_half_floor(signal + 0.3 * noise, None, seed=0)


def test_bootstrap_of_sixty_by_3500_is_quick() -> None:
    scores = torch.randn(60, 50, 70, generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    bootstrap(scores, scores + 0.1, None, seed=0)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("scale", [1e25, 1e38])
def test_scores_whose_squares_overflow_decide_nothing(measured: tuple[EdgeScores, EdgeScores], scale: float) -> None:
    before, after = measured
    factor = scale / float(before.scores.abs().max())
    huge = (replace(before, scores=before.scores * factor), replace(after, scores=after.scores * factor))
    with pytest.raises(UndecidedError, match="too large"):
        compare(*huge)
    cells = torch.full((4, 3, 3), scale)
    with pytest.raises(UndecidedError, match="too large"):
        bootstrap(cells, cells, None, seed=0)


def test_an_interval_of_no_resample_decides_nothing() -> None:
    """Of two pairs one has no score: a resample of it alone has nothing to diverge from."""
    cells = torch.tensor([1.0, 0.0])[:, None, None]
    refused = 0
    for seed in range(20):
        try:
            bootstrap(cells, cells, None, seed=seed, samples=1)
        except UndecidedError:
            refused += 1
    assert 0 < refused < 20
