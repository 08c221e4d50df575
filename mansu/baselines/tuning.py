"""The one tuner of all baselines: the same steps on the same data at every rate, chosen on validation prompts.

The rule: of the rates whose validation retention is within 0.02 of the base's, the one with the lowest validation
forget accuracy; where none is, the one that loses least retention. Of equals, the smaller rate. The grid is extended on
the side where the best lies at its edge, until the best is inside, or stands beside a rate that breaks the model.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mansu.baselines.data import BaselineData, Budget
from mansu.baselines.method import Editor, Method
from mansu.baselines.weights import bin_width_over_update, changed, edited_weights, put
from mansu.cost import Cost, added, meter, metered
from mansu.data.examples import answer_accuracy, last_logits
from mansu.progress import Advance
from verify.errors import UsageError

RETENTION_LOSS = 0.02
MOST_RATES = 12
ALL_BROKEN = "ME282"
"""The error of a method of which every attempt breaks the model."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One setting at one value of the sweep, with accuracies on validation prompts, of the weights as stored.

    `broken` models have weights or logits that are no finite numbers; their accuracies count for nothing.
    """

    method: Method
    strength: float
    forget: float
    retain: float
    broken: bool
    cost: Cost


@dataclass(frozen=True, slots=True)
class Baseline:
    """The edit of one method at its best, and how it was found.

    `strength` is the swept value (`method.sweep.what`, most often the learning rate). `base_forget` and `base_retain`
    are the base's validation accuracies; `attempts` are all that were tried, by setting, weakest first. `at_edge` says
    that the search ended at its limit with the best still the weakest or strongest tried. `weights` are all that NF4
    quantizes, by layer name, in the stored dtype. `share_changed` is of the model's parameters; `cost` is that of
    the whole search.
    """

    method: Method
    strength: float
    base_forget: float
    base_retain: float
    attempts: tuple[Attempt, ...]
    at_edge: bool
    weights: dict[str, Tensor]
    bin_width_over_update: float
    share_changed: float
    cost: Cost

    @property
    def best(self) -> Attempt:
        """Return the attempt that was kept."""
        return next(a for a in self.attempts if a.method == self.method and a.strength == self.strength)


@dataclass(frozen=True, slots=True)
class Search:
    """What every attempt shares.

    `before` are the base's weights by layer, `parameters` all that it has; accuracies are the base's on validation
    prompts.
    """

    data: BaselineData
    fresh: Callable[[], Any]
    seed: int
    budget: Budget
    before: dict[str, Tensor]
    parameters: int
    base_forget: float
    base_retain: float

    def sound(self, attempt: Attempt) -> bool:
        """Whether an attempt keeps what the rule asks for."""
        return not attempt.broken and attempt.retain >= self.base_retain - RETENTION_LOSS

    def order(self, attempt: Attempt, place: int) -> tuple[bool, float, int]:
        """Return a key that sorts by the rule, best first."""
        sound = self.sound(attempt)
        return (not sound, attempt.forget if sound else -attempt.retain, place)


@dataclass(frozen=True, slots=True)
class _Swept:
    """One setting's attempts by place of the grid, and the best of them with its weights (None: all broke)."""

    tried: dict[int, Attempt]
    best: int | None
    weights: dict[str, Tensor]


def run(
    method: Method,
    data: BaselineData,
    fresh: Callable[[], Any],
    seed: int,
    *,
    budget: Budget | None = None,
    progress: Advance,
) -> Baseline:
    """Sweep a method in each of its variants and return its best edit.

    `fresh()` returns a new float32 copy of the base; `progress` is called after each attempt. Raises `UsageError` ME282
    where every attempt breaks the model, and what the method raises.
    """
    spent = meter()
    search = _search(data, fresh, seed, budget)
    attempts: list[Attempt] = []
    found: tuple[_Swept, int] | None = None
    for variant in method.variants():
        swept = _sweep(variant, search, progress)
        attempts += [swept.tried[place] for place in sorted(swept.tried)]
        if swept.best is not None and (found is None or _better(search, (swept, swept.best), found)):
            found = (swept, swept.best)
    if found is None:
        raise _all_broken(method, attempts)
    swept, place = found
    at_edge = len(swept.tried) >= MOST_RATES and place in {min(swept.tried), max(swept.tried)}
    return _baseline(search, swept.tried[place], swept.weights, attempts, spent(), at_edge=at_edge)


def run_at(
    method: Method,
    strength: float,
    data: BaselineData,
    fresh: Callable[[], Any],
    seed: int,
    *,
    budget: Budget | None = None,
) -> Baseline:
    """Edit once, with a setting and a value of the sweep that were chosen before, as on another seed's data.

    Raises `UsageError` ME282 where that breaks the model, and what the method raises.
    """
    spent = meter()
    search = _search(data, fresh, seed, budget)
    attempt, weights = _attempt(method, search, strength, *_editor(method, search))
    if attempt.broken:
        raise _all_broken(method, [attempt])
    return _baseline(search, attempt, weights, [attempt], spent(), at_edge=False)


def _search(data: BaselineData, fresh: Callable[[], Any], seed: int, budget: Budget | None) -> Search:
    base = fresh()
    before = edited_weights(base, data.stored)
    parameters = sum(parameter.numel() for parameter in base.parameters())
    forget, retain = (answer_accuracy(base, p) for p in (data.forget_validation, data.retain_validation))
    return Search(data, fresh, seed, budget or Budget(), before, parameters, forget, retain)


def _baseline(
    search: Search, kept: Attempt, weights: dict[str, Tensor], attempts: list[Attempt], cost: Cost, *, at_edge: bool
) -> Baseline:
    return Baseline(
        method=kept.method,
        strength=kept.strength,
        base_forget=search.base_forget,
        base_retain=search.base_retain,
        attempts=tuple(attempts),
        at_edge=at_edge,
        weights=weights,
        bin_width_over_update=bin_width_over_update(search.before, weights),
        share_changed=changed(search.before, weights) / search.parameters,
        cost=cost.model_copy(update={"peak_bytes": max(a.cost.peak_bytes or 0 for a in attempts) or None}),
    )


def next_place(search: Search, tried: dict[int, Attempt], best: int | None, count: int) -> int | None:
    """Return which place of the grid to try next, or None when the search is over."""
    low, high = min(tried), max(tried)
    if len(tried) >= MOST_RATES:
        return None
    if high < count - 1 and not tried[high].broken:
        return high + 1
    if best is None:  # everything broke: only weaker can help
        return low - 1
    forgets = tried[best].forget < search.base_forget
    if best == high or (not forgets and search.sound(tried[high])):
        return high + 1
    # below a value that forgets nothing there is nothing to find
    return low - 1 if best == low and forgets else None


def _sweep(method: Method, search: Search, progress: Advance) -> _Swept:
    tried: dict[int, Attempt] = {}
    best: int | None = None
    kept: dict[str, Tensor] = {}
    place: int | None = 0
    editor, shared = _editor(method, search)
    while place is not None:
        attempt, weights = _attempt(method, search, method.sweep.value(place), editor, shared)
        tried[place] = attempt
        progress(1)
        if not attempt.broken and (best is None or search.order(attempt, place) < search.order(tried[best], best)):
            best, kept = place, weights  # the others' weights are let go
        place = next_place(search, tried, best, method.sweep.count)
    return _Swept(tried, best, kept)


def _better(search: Search, one: tuple[_Swept, int], other: tuple[_Swept, int]) -> bool:
    """Whether one variant's best beats another's by the rule; of equals the first variant, the paper's, stays."""
    keys = [search.order(swept.tried[place], 0) for swept, place in (one, other)]
    return keys[0] < keys[1]


def _editor(method: Method, search: Search) -> tuple[Editor, Cost]:
    """Return what edits at any value of the sweep, and what it cost to make."""
    return metered(lambda: method.editor(search.fresh, search.data, search.budget, search.seed))


def _attempt(
    method: Method, search: Search, strength: float, editor: Editor, shared: Cost
) -> tuple[Attempt, dict[str, Tensor]]:
    """Edit and validate; the cost is that of an edit at this value alone, so what all values share is part of it."""
    spent = meter()
    data, model = search.data, search.fresh()
    weights: dict[str, Tensor] = {}
    forget = retain = 0.0
    broken = True
    # FloatingPointError is how an edit says that it left the finite numbers
    with suppress(FloatingPointError):
        editor(model, strength)
        weights = edited_weights(model, data.stored)
        put(model, weights)
        broken = not _is_finite(model, weights, data)
    if not broken:
        forget, retain = (answer_accuracy(model, p) for p in (data.forget_validation, data.retain_validation))
    return Attempt(method, strength, forget, retain, broken, added(shared, spent())), weights


@torch.no_grad()
def _is_finite(model: Any, weights: dict[str, Tensor], data: BaselineData) -> bool:
    first = range(min(8, len(data.retain_validation)))
    return all(bool(weight.isfinite().all()) for weight in weights.values()) and bool(
        last_logits(model, data.retain_validation, first).isfinite().all()
    )


def _all_broken(method: Method, attempts: list[Attempt]) -> UsageError:
    return UsageError(
        f"{method.title}: no {method.sweep.what} leaves a model of finite numbers",
        expected=f"a {method.sweep.what} at which the model survives",
        found=f"{len(attempts)} tried, from {min(a.strength for a in attempts):g} on",
        remedy="take fewer steps, or other hyper-parameters",
        error_id=ALL_BROKEN,
    )
