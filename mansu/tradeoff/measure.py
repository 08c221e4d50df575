"""One call: a model, edited models → how many parameters an update of each size can move to another code at most.

The bounds are those of `verify.nf4.tradeoff`; docs/tradeoff.md states and proves them. Budgets come in two units: the
norm of the update, and the nats ½ Σ F Δ² of a diagonal Fisher. Only weights that NF4 quantizes count.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mansu.base import Base, open_base, open_language, quantized_weights
from mansu.baselines.weights import bin_width_over_update
from mansu.config import Config
from mansu.data.examples import Texts, cut_texts, sample_texts, tokenize_facts
from mansu.progress import Steps
from mansu.request import pools, read_retain, require_answer_tokens
from mansu.retain.fisher import fisher, fisher_losses
from verify.behaviour.modules import nf4_linears
from verify.errors import ExitCode, MansuError, UsageError
from verify.nf4 import quantize, survival
from verify.nf4.tradeoff import crossing_costs, floor_costs, free_costs, largest_count, row_costs

MARGIN = 2.0**-7
CURVES: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "crossing": free_costs,
    "crossing_fixed_scale": crossing_costs,
    "five_rows": floor_costs,
    "five_rows_fixed_scale": row_costs,
}
"""Name of a bound → the costs it is computed from. The first and third hold for every update."""

_DECADES = 14  # of squared norms, or nats, below an update as large as the weights themselves
_PER_DECADE = 12


class BoundExceededError(MansuError):
    """An update beats a proved bound: the program is wrong, not the model. Exit code 4."""

    id = "ME401"
    exit_code = ExitCode.INTERNAL


@dataclass(frozen=True, slots=True)
class Update:
    """An edited model against its base, over the quantized weights; counts are numbers of parameters.

    `norm` is ‖Δ‖₂, `nats` ½ Σ F Δ² (None without a Fisher); `five_rows` satisfy all five rows, taking every changed
    parameter as masked. `bin_width_over_update` is the median over changed parameters.
    """

    name: str
    norm: float
    nats: float | None
    changed: int
    crossed: int
    five_rows: int
    bin_width_over_update: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Bounds for one unit of budget: `budgets` ascend, `counts` and `at_updates` are by name in `CURVES`.

    `at_updates` holds the bound at each update's own budget, `update_budgets`, in the order of the updates.
    """

    unit: str
    budgets: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]
    update_budgets: tuple[float, ...]
    at_updates: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The tradeoff of one model: how many weights NF4 quantizes, their norm, the panels, and the updates in them."""

    model: str
    parameters: int
    norm: float
    panels: tuple[Panel, ...]
    updates: tuple[Update, ...]


def tradeoff(
    model: Path, updates: Mapping[str, Path], retain: Path | None, config: Config, *, steps: Steps
) -> Tradeoff:
    """Compute the bounds of a model and place edited models (name → folder) under them.

    `retain` adds the panel in nats. Raises `UsageError` ME210 (model), ME241 (an edited model), ME201, ME202 and ME204
    (retain set); `BoundExceededError` ME401 if an update lies above a bound that was proved for it.
    """
    base = open_base(model)
    weights = quantized_weights(base)
    importance = None if retain is None else retain_importance(base, retain, config, steps=steps)
    with steps.step("Measuring updates", len(updates) * len(weights)) as advance:
        measured = tuple(_measure(name, folder, base, weights, importance, advance) for name, folder in updates.items())
    squares = _squares(weights, None)
    panels = [_panel("norm", weights, None, squares, [update.norm**2 for update in measured], steps)]
    if importance is not None:
        spent = [update.nats or 0.0 for update in measured]
        panels.append(_panel("nats", weights, importance, _squares(weights, importance), spent, steps))
    for panel in panels:
        _require_below(panel, measured)
    parameters = sum(weight.numel() for weight in weights.values())
    return Tradeoff(model.name, parameters, math.sqrt(squares), tuple(panels), measured)


def retain_importance(base: Base, retain: Path, config: Config, *, steps: Steps) -> dict[str, Tensor]:
    """Return ½ F by tensor name, float32: half the diagonal empirical Fisher of the retain loss, as the solver has it.

    Raises `UsageError` as `tradeoff` does.
    """
    facts, prose = read_retain(retain)
    language, _ = open_language(base)
    require_answer_tokens(language.tokenizer, facts)
    pool_of = pools(facts)
    prompts = tokenize_facts(language.tokenizer, facts, pool_of)
    with steps.step("Sampling texts from the base", 1) as advance:
        texts = sample_texts(
            language.model, language.tokenizer, count=config.sampled_texts, length=config.text_length, seed=config.seed
        )
        advance(1)
    own = cut_texts(language.tokenizer, prose, length=config.text_length)
    texts = Texts(torch.cat([texts.ids, own.ids])) if own else texts
    rng = random.Random(config.seed)  # noqa: S311  (batches, not secrets)
    losses = fisher_losses(language.model, prompts, texts, rng, config.fisher_batches)
    layers = nf4_linears(language.model)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    with steps.step("Diagonal Fisher of what is retained", config.fisher_batches) as advance:
        found = fisher(layers, losses, progress=advance)
    return {f"{name}.weight": diagonal.div_(2) for name, diagonal in found.diagonal.items()}


def _measure(
    name: str,
    folder: Path,
    base: Base,
    weights: Mapping[str, Tensor],
    importance: Mapping[str, Tensor] | None,
    advance: Callable[[int], None],
) -> Update:
    edited = _edited_weights(name, folder, base)
    squares, nats, changed, crossed, survived = 0.0, 0.0, 0, 0, 0
    for tensor, before in weights.items():
        after = edited[tensor]
        moves = (after.double() - before.double()).square_()
        squares += float(moves.sum())
        if importance is not None:
            nats += float((moves * importance[tensor]).sum())
        moved = moves.reshape(-1).nonzero().reshape(-1)
        changed += moved.numel()
        crossed += int((quantize(before).codes != quantize(after).codes).sum())
        if moved.numel():
            rows = survival(before, after, moved, margin=MARGIN).rows
            survived += int(torch.stack(list(rows.values())).all(0).sum())
        advance(1)
    return Update(
        name=name,
        norm=math.sqrt(squares),
        nats=None if importance is None else nats,
        changed=changed,
        crossed=crossed,
        five_rows=survived,
        bin_width_over_update=bin_width_over_update(dict(weights), edited),
    )


def _edited_weights(name: str, folder: Path, base: Base) -> dict[str, Tensor]:
    """Open an edited model, and refuse one that is not an edit of this base."""
    if not folder.is_dir():
        raise _misfit(name, "its folder does not exist", str(folder))
    try:
        edited = open_base(folder)
        mine, its = ({n: v.shape for n, v in b.weights.tensors().items()} for b in (base, edited))
        odd = sorted(tensor for tensor in mine.keys() | its.keys() if mine.get(tensor) != its.get(tensor))
        if odd:
            found = f"{odd[0]!a}: {its.get(odd[0], 'missing')}, in the base {mine.get(odd[0], 'no such tensor')}"
            raise _misfit(name, "its tensors are not those of the base", found)
        return quantized_weights(edited)
    except UsageError as error:
        if error.id == "ME241":
            raise
        raise _misfit(name, error.message, error.found) from error


def _panel(
    unit: str,
    weights: Mapping[str, Tensor],
    importance: Mapping[str, Tensor] | None,
    whole: float,
    spent: list[float],
    steps: Steps,
) -> Panel:
    """Compute every bound in one unit; `whole` is the cost of moving each weight by its own size."""
    # powers of ten are on the grid, for the table
    top = math.ceil(math.log10(whole) * _PER_DECADE) if whole > 0 else 0
    grid = 10 ** (np.arange(top - _DECADES * _PER_DECADE, top + 1) / _PER_DECADE)
    budgets = np.concatenate([grid, np.array(spent)])
    costs = np.empty(sum(weight.numel() for weight in weights.values()))
    counts, at_updates = {}, {}
    with steps.step(f"Bounds by {unit}", len(CURVES) * (len(weights) + 1)) as advance:
        for name, cost_of in CURVES.items():
            start = 0
            for tensor, weight in weights.items():
                found = cost_of(weight, importance=None if importance is None else importance[tensor])
                costs[start : start + found.size] = found
                start += found.size
                advance(1)
            costs.sort()
            found_counts = largest_count(costs, budgets).tolist()
            counts[name] = tuple(found_counts[: grid.size])
            at_updates[name] = tuple(found_counts[grid.size :])
            advance(1)
    # users think in norms, not in their squares
    shown = np.sqrt(budgets) if unit == "norm" else budgets
    return Panel(unit, tuple(shown[: grid.size].tolist()), counts, tuple(shown[grid.size :].tolist()), at_updates)


def _squares(weights: Mapping[str, Tensor], importance: Mapping[str, Tensor] | None) -> float:
    total = 0.0
    for name, weight in weights.items():
        squares = weight.double().square()
        total += float((squares if importance is None else squares.mul_(importance[name])).sum())
    return total


def _require_below(panel: Panel, updates: tuple[Update, ...]) -> None:
    reached = {"crossing": [u.crossed for u in updates], "five_rows": [u.five_rows for u in updates]}
    for which, counts in reached.items():
        for update, count, bound in zip(updates, counts, panel.at_updates[which], strict=True):
            if count > bound:
                raise BoundExceededError(
                    f"internal inconsistency: update {update.name!r} lies above the bound ({which}, by {panel.unit})",
                    expected=f"at most {bound:,} parameters",
                    found=f"{count:,}",
                    remedy="report this: either the bound or the count is computed wrongly",
                )


def _misfit(name: str, what: str, found: str) -> UsageError:
    return UsageError(
        f"update {name!r}: {what}",
        expected="a model folder with the tensors of MODEL, edited",
        found=found,
        remedy="give the folder of a model that was made from this base, as NAME=FOLDER",
        error_id="ME241",
    )


def as_json(found: Tradeoff) -> dict[str, Any]:
    """Return the numbers as a JSON object; an infinite ratio (nothing changed) becomes null."""
    return {
        "version": 1,
        "model": found.model,
        "quantized_parameters": found.parameters,
        "weight_norm": found.norm,
        "margin": MARGIN,
        "panels": [
            {
                "unit": panel.unit,
                "budgets": list(panel.budgets),
                "largest_counts": {name: list(counts) for name, counts in panel.counts.items()},
            }
            for panel in found.panels
        ],
        "updates": [
            {
                "name": update.name,
                "norm": update.norm,
                "nats": update.nats,
                "changed": update.changed,
                "crossed": update.crossed,
                "five_rows": update.five_rows,
                "bin_width_over_update": update.bin_width_over_update if update.changed else None,
                "bounds": {
                    panel.unit: {name: counts[i] for name, counts in panel.at_updates.items()} for panel in found.panels
                },
            }
            for i, update in enumerate(found.updates)
        ],
    }
