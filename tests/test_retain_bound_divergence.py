"""Theorem 1 of docs/retain-bound.md: the divergence of two predictions is bounded by how their logits differ."""

import math

import pytest
import sympy
import torch
import z3
from hypothesis import given
from hypothesis import strategies as st

from mansu.retain_bound.divergence import ceiling, change, deviation, divergence_bound, growth
from mansu.retain_bound.measure import exceeded, mean_growth


@st.composite
def logits(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Base and edited logits `[P, vocabulary]`, from nearly equal to far apart, flat to peaked."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(2, 40)))
    peaked, moved = draw(st.floats(0, 8)), 10 ** draw(st.floats(-4, 1))
    base = peaked * torch.randn(shape, generator=generator, dtype=torch.float64)
    step = torch.randn(shape, generator=generator, dtype=torch.float64)
    # heavy tails: a few tokens move much further than the others
    step = step * draw(st.sampled_from([1.0, 3.0])) ** torch.randn(shape, generator=generator, dtype=torch.float64)
    return base, base + moved * step


def divergence(base: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    p, q = base.log_softmax(-1), edited.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


@given(logits())
def test_the_divergence_lies_below_its_bounds(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    base, edited = pair
    found = change(base, edited)
    assert torch.allclose(found.divergence, divergence(base, edited), rtol=1e-6, atol=1e-12)
    assert exceeded(found.divergence, found.bound()) == 0
    assert exceeded(found.divergence, found.spread.square() / 8) == 0
    assert exceeded(found.divergence, divergence_bound(found.deviation, found.rise)) == 0
    # the simpler forms of the theorem are weaker still
    simple = growth(found.rise) * found.deviation.square()
    assert exceeded(divergence_bound(found.deviation, found.rise), simple) == 0
    assert exceeded(found.rise, found.spread) == 0
    assert exceeded(found.divergence, found.spread) == 0


@given(logits(), st.floats(0, 3), st.integers(0, 2**31))
def test_parts_of_the_change_bound_it_too(pair: tuple[torch.Tensor, torch.Tensor], size: float, seed: int) -> None:
    """δ = u + (δ − u) for any u: what Theorems 2 and 3 add to the first, at positions and on the mean."""
    base, edited = pair
    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = change(base, edited)
    part = (edited - base) * 0.7 + size * noise
    first, rest = deviation(base, part), deviation(base, edited - base - part)
    assert exceeded(found.divergence, divergence_bound(first + rest, found.rise)) == 0
    phi = mean_growth(growth(found.rise), first + rest)
    whole = phi * (first.square().mean().sqrt() + rest.square().mean().sqrt()) ** 2
    assert exceeded(found.divergence.mean(), whole) == 0


def test_small_changes_meet_the_bound_and_constants_move_nothing() -> None:
    base = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    found = change(base, base + torch.tensor([[1e-4, -1e-4, 0.0]], dtype=torch.float64))
    assert float(found.divergence) == pytest.approx(float(found.bound()), rel=1e-3)
    still = change(base, base + 5)
    assert float(still.divergence) == pytest.approx(0, abs=1e-15)
    assert float(still.deviation) == pytest.approx(0, abs=1e-12)


def test_the_growth_is_the_integral_of_the_proof_and_increases() -> None:
    b, s = sympy.symbols("b s", positive=True)
    integral = sympy.integrate((1 - s) * sympy.exp(s * b), (s, 0, 1))
    assert sympy.simplify(integral - (sympy.exp(b) - 1 - b) / b**2) == 0
    assert sympy.limit(integral, b, 0) == sympy.Rational(1, 2)
    points = torch.logspace(-6, 2, 400, dtype=torch.float64)
    assert (growth(points).diff() > 0).all()
    exact = [float(((sympy.exp(x) - 1 - x) / x**2).evalf(30)) for x in map(sympy.Float, (1e-4, 1e-3, 0.5, 4.0))]
    assert growth(torch.tensor([1e-4, 1e-3, 0.5, 4.0])).tolist() == pytest.approx(exact, rel=1e-6)


@given(st.floats(1e-6, 20), st.floats(-50, 20))
def test_the_exponential_lies_below_its_parabola(b: float, x: float) -> None:
    if x <= b:
        limit = 1 + x + x * x * float(growth(torch.tensor(b, dtype=torch.float64)))
        assert math.exp(x) <= limit * (1 + 1e-9) + 1e-9


def test_popoviciu_is_proved() -> None:
    """Var ≤ (hi − m)(m − lo) from (hi − x)(x − lo) ≥ 0, and that is at most a quarter of the square of the range."""
    low, high, mean, square = z3.Reals("low high mean square")
    solver = z3.Solver()
    # E(hi − x)(x − lo) ≥ 0, written out
    solver.add(low <= mean, mean <= high, (high + low) * mean - square - high * low >= 0)
    solver.add(square - mean * mean > (high - low) * (high - low) / 4)
    assert solver.check() == z3.unsat


def test_no_edit_below_the_final_norm_exceeds_the_ceiling() -> None:
    generator = torch.Generator().manual_seed(3)
    head, gain = torch.randn(30, 8, generator=generator), torch.rand(8, generator=generator)
    state = 10 * torch.randn(2, 200, 8, generator=generator)
    before, after = ((x * torch.rsqrt(x.square().mean(-1, keepdim=True))) * gain @ head.T for x in state)
    assert float(divergence(before.double(), after.double()).max()) < ceiling(head, gain)
