"""One method's edit: mansu, an ablation of it, or a baseline at its best rate."""

from dataclasses import dataclass

from pydantic import JsonValue
from torch import Tensor

from mansu.base import working_copy
from mansu.baselines import METHODS, Baseline, Method, run, run_at
from mansu.bench.ablations import ABLATIONS, ablated
from mansu.bench.study.document import EditRecord, Tried
from mansu.bench.study.training import Training
from mansu.circuit_edit import edit_circuit
from mansu.config import Config
from mansu.cost import Cost, added, metered
from mansu.progress import Steps
from mansu.solve.frontier import FrontierPoint
from mansu.solve.solver import Edit
from verify.errors import UsageError

MANSU = "mansu"
USING_CIRCUIT = frozenset({"ascent-circuit"})
"""Baselines to whose cost the search of the circuit belongs."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A baseline's setting and value of its sweep, and the seed whose validation prompts they were chosen by."""

    method: Method
    strength: float
    tuned_on: int


@dataclass(frozen=True, slots=True)
class Edited:
    """The edited weights by layer name, in the stored dtype, and how they came about (see `EditRecord`)."""

    weights: dict[str, Tensor]
    settings: dict[str, JsonValue]
    sweep: str | None
    strength: float | None
    tuned_on: int
    tried: tuple[Tried, ...]
    cost: Cost
    search: Cost
    frontier: tuple[FrontierPoint, ...] = ()


def method_names() -> tuple[str, ...]:
    """Return the names of all methods that are compared by default, mansu first; its ablations are none of them."""
    return (MANSU, *METHODS)


def title_of(name: str) -> str:
    """Return what a method is called in a table; raises `UsageError` ME380 for an unknown one."""
    if name == MANSU:
        return MANSU
    if name in ABLATIONS:
        return f"{MANSU}, {name}"
    if name in METHODS:
        return METHODS[name].title
    raise UsageError(
        "there is no such method",
        expected=f"one of {', '.join((*method_names(), *ABLATIONS))}",
        found=repr(name),
        remedy="choose among them; docs/baselines.md and docs/masks.md describe them",
        error_id="ME380",
    )


def edit(name: str, training: Training, chosen: Chosen | None, *, frontier: bool = False, steps: Steps) -> Edited:
    """Edit the base by a method; a baseline is tuned, unless what to run it with was `chosen` before.

    With `frontier` mansu's is traced once the edit is made (docs/solver.md), which is part of its cost.

    Raises `UsageError` ME380 for an unknown method, and what the method raises.
    """
    title = title_of(name)
    config = training.opened.config
    if name == MANSU or name in ABLATIONS:
        changed = ablated(name, config) if name in ABLATIONS else config
        return _engine(training, changed, frontier=frontier, steps=steps)
    method = METHODS[name]
    data, fresh, seed = training.baseline, training.fresh, training.opened.seed
    if chosen is not None:
        with steps.step(f"{title} at {chosen.strength:g}", 1) as advance:
            found = run_at(chosen.method, chosen.strength, data, fresh, seed)
            advance(1)
        return _baseline(name, found, training, chosen.tuned_on)
    with steps.step(f"{title}: {method.sweep.what} sweep") as advance:
        found = run(method, data, fresh, seed, progress=advance)
    return _baseline(name, found, training, seed)


def _baseline(name: str, found: Baseline, training: Training, tuned_on: int) -> Edited:
    cost, search = found.best.cost, found.cost
    if name in USING_CIRCUIT:
        cost, search = added(training.circuit_cost, cost), added(training.circuit_cost, search)
    return Edited(
        weights=found.weights,
        settings=_settings(found.method),
        sweep=found.method.sweep.what,
        strength=found.strength,
        tuned_on=tuned_on,
        tried=tuple(
            Tried(
                settings=_settings(attempt.method),
                strength=attempt.strength,
                forget=attempt.forget,
                retain=attempt.retain,
                broken=attempt.broken,
            )
            for attempt in found.attempts
        ),
        cost=cost,
        search=search,
    )


def _settings(method: Method) -> dict[str, JsonValue]:
    return dict(method.model_dump(mode="json"))


def chosen_by(record: EditRecord) -> Chosen:
    """Return what a baseline's record says it was run with, for another seed to use."""
    assert record.strength is not None, "a baseline's record"
    method = METHODS[record.method]
    return Chosen(type(method).model_validate(record.settings), record.strength, record.tuned_on)


def _engine(training: Training, config: Config, *, frontier: bool, steps: Steps) -> Edited:
    """Run the engine from prepared data to the solved edit; finding the circuit is part of its cost."""
    opened = training.opened
    model = working_copy(opened.language, opened.base.stored)
    solved, cost = metered(
        lambda: edit_circuit(
            model, opened.base, training.data, training.circuit, config, frontier=frontier, steps=steps
        )
    )
    total = added(training.circuit_cost, cost)
    return Edited(
        weights=_applied(opened.weights(), solved),
        settings=dict(config.settings()),
        sweep=None,
        strength=None,
        tuned_on=opened.seed,
        tried=(),
        cost=total,
        search=total,
        frontier=solved.frontier,
    )


def _applied(weights: dict[str, Tensor], solved: Edit) -> dict[str, Tensor]:
    for layer, indices in solved.indices.items():
        changed = weights[layer].clone()
        changed.view(-1)[indices] = solved.values[layer].to(changed.dtype)
        weights[layer] = changed
    return weights
