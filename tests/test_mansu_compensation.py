"""Error compensation against dense least squares, on random rows."""

import tiny_masked as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mansu.floor.fixing import Floor
from mansu.solve.compensation import DAMPING, compensate, compensation
from mansu.solve.solver import _snap


def case(seed: int, rows: int, width: int, count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randperm(rows * width, generator=generator)[:count].sort().values
    free = torch.rand(indices.numel(), generator=generator) < torch.rand(1, generator=generator)
    errors = torch.randn(indices.numel(), generator=generator).masked_fill(free, 0)
    inputs = torch.randn(7, width, generator=generator) * torch.rand(width, generator=generator)  # fewer than the width
    return indices, errors, free, inputs


def update(values: torch.Tensor, indices: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    dense = torch.zeros(rows * width, dtype=torch.float64)
    dense[indices] = values.double()
    return dense.reshape(rows, width)


cases = {
    "seed": st.integers(0, 2**20),
    "rows": st.integers(1, 9),
    "width": st.integers(1, 24),
    "share": st.floats(0.05, 1),
}


@settings(max_examples=60, deadline=None)
@given(**cases)
def test_it_never_raises_the_retain_error_and_moves_what_is_free_alone(
    seed: int, rows: int, width: int, share: float
) -> None:
    indices, errors, free, inputs = case(seed, rows, width, max(1, int(share * rows * width)))
    delta = compensation(indices, errors, free, inputs.T @ inputs)
    assert not delta[~free].any()
    before = (inputs.double() @ update(errors, indices, rows, width).T).square().sum(0)
    after = (inputs.double() @ update(errors + delta, indices, rows, width).T).square().sum(0)
    assert bool((after <= before * (1 + 1e-5) + 1e-9).all()), "row by row"


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_it_is_the_damped_least_squares_solution(seed: int, rows: int, width: int, share: float) -> None:
    indices, errors, free, inputs = case(seed, rows, width, max(1, int(share * rows * width)))
    delta = compensation(indices, errors, free, inputs.T @ inputs)
    damping = (DAMPING * (inputs.T @ inputs).diagonal().mean()).sqrt().double()
    for row in range(rows):
        mine = (indices // width == row) & free
        if not mine.any():
            continue
        # inputs of the free columns, and one more row each for the damping, in double precision
        columns = inputs[:, indices[mine] % width].double()
        system = torch.cat([columns, damping * torch.eye(int(mine.sum()), dtype=torch.float64)])
        owed = -(inputs.double() @ update(errors, indices, rows, width)[row])
        wanted = torch.cat([owed, torch.zeros(int(mine.sum()), dtype=torch.float64)])
        found = torch.linalg.lstsq(system, wanted[:, None]).solution[:, 0]
        torch.testing.assert_close(delta[mine].double(), found, rtol=1e-3, atol=1e-4)


def test_rows_are_solved_alike_however_they_are_batched(monkeypatch: object) -> None:
    indices, errors, free, inputs = case(5, 9, 24, 150)
    together = compensation(indices, errors, free, inputs.T @ inputs)
    monkeypatch.setattr("mansu.solve.compensation._ENTRIES", 1)  # type: ignore[attr-defined]
    alone = compensation(indices, errors, free, inputs.T @ inputs)
    torch.testing.assert_close(together, alone)


def test_an_input_that_is_never_there_moves_nothing() -> None:
    indices, errors, free, _ = case(1, 4, 8, 20)
    assert not compensation(indices, errors, free, torch.zeros(8, 8)).any()


def test_a_snap_with_compensation_keeps_the_layers_retain_outputs_better() -> None:
    errors = []
    for compensated in (False, True):
        found = tiny.tiny(2, share=0.5)
        masked = found.masked
        generator = torch.Generator().manual_seed(0)
        # few directions, as activations have them
        found.inputs = torch.randn(64, 6, generator=generator) @ torch.randn(6, 128, generator=generator)
        masked.set(masked.lattice.base + 0.02 * torch.randn(masked.master.shape, generator=generator))
        masked.free[:] = True
        before = found.layer(found.inputs)
        moments = {"l": found.inputs.T @ found.inputs} if compensated else None
        for share in (0.5, 0.5, 0.5, 1.0):
            _snap(masked, share, Floor(), moments, tiny.BOUNDS.reach)
        assert not masked.free.any()
        found.require_valid()
        errors.append(float((found.layer(found.inputs) - before).square().mean()))
    assert errors[1] < 0.8 * errors[0]


def test_free_parameters_stay_within_their_blocks_reach() -> None:
    masked = tiny.tiny(3).masked
    masked.free[::2] = True
    errors = torch.where(masked.free, 0.0, 10 * masked.lattice.scale)
    fixed = masked.master[~masked.free].clone()
    compensate(masked, errors, {"l": torch.eye(128) + 1}, reach=0.9)
    assert bool((masked.master[masked.free].abs() <= 0.9 * masked.lattice.scale[masked.free] * (1 + 1e-6)).all())
    assert torch.equal(masked.master[~masked.free], fixed)
