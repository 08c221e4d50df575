"""The edit of a circuit: statistics of what is retained, the mask, and what the solver is given."""

import math
import random
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mansu.base import Base
from mansu.config import Config
from mansu.data.prepare import Data
from mansu.floor.fixing import Floor
from mansu.mask.gradient import forget_gradient
from mansu.mask.selection import Mask, circuit_regions, everywhere, layer_regions, select
from mansu.precision import products
from mansu.progress import Steps
from mansu.retain.fisher import Fisher, fisher, fisher_losses
from mansu.retain.null_space import NullSpace, null_space, second_moments
from mansu.solve.deployed import Deployed, deployed
from mansu.solve.finish.finishing import finishing
from mansu.solve.masked import Bounds
from mansu.solve.objective import Objective, Sizes, Weights
from mansu.solve.solver import Edit, Schedule, solve
from mansu.solve.stopping import stopping
from mansu.solve.train import Retention
from verify.behaviour.modules import nf4_linears, survey
from verify.checks.permanence import geometry_of
from verify.circuits import FaithfulCircuit, Family, describe
from verify.nf4.rows import Geometry


def edit_circuit(
    model: Any,
    base: Base,
    data: Data,
    circuit: FaithfulCircuit,
    config: Config,
    *,
    steps: Steps,
    frontier: bool = False,
) -> Edit:
    """Choose the mask within the circuit and solve for it, in place in `model` (which starts as the base)."""
    layers = _editable(model, config)
    regions = _regions(describe(model), circuit, layers, config)
    inside = {name: layers[name] for name in regions}
    objective = _objective(data, config)
    bound, saliency = _gradients(model, inside, objective, data, config, steps)
    moments, space = _activations(model, inside, data, config, steps)
    parameters = sum(view.count for view in base.weights.tensors().values())
    mask = select(
        inside,
        base.stored,
        regions,
        saliency,
        bound if config.fisher else Fisher.flat(inside),
        space,
        choice=config.mask,
        size=int(config.mask_share * parameters),
        parameters=parameters,
        seed=config.seed,
        holders=config.floor == "unfrozen",
    )
    compensates = config.error_compensation and config.floor == "levels"
    kept = {name: moments[name].cpu() for name in mask.indices} if compensates else None
    bound_there = bound.at(mask.indices)
    del saliency, bound, moments  # one value for every parameter of the circuit and more, and not needed any more
    retained = Retention(bound_there, space, kept, _deployed(model, mask, data, config, steps))
    return _solve(model, base, mask, objective, retained, data, config, steps, frontier=frontier)


def _objective(data: Data, config: Config) -> Objective:
    sizes = Sizes().halved() if config.retain_after_nf4 else Sizes()
    rng = random.Random(config.seed)  # noqa: S311  (batches, not secrets)
    return Objective(data.forget, data.retained, weights_of(config), sizes, rng, data.contexts)


def _gradients(
    model: Any, layers: Mapping[str, nn.Linear], objective: Objective, data: Data, config: Config, steps: Steps
) -> tuple[Fisher, Mapping[str, Tensor]]:
    """Return the diagonal Fisher of what is retained, and the forget gradient."""
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    with products(config.training_products):
        with steps.step("Diagonal Fisher of what is retained", config.fisher_batches) as advance:
            kept = data.retained
            losses = fisher_losses(model, kept.prompts, kept.texts, objective.rng, config.fisher_batches)
            bound = fisher(layers, losses, progress=advance)
        saliency = forget_gradient(model, layers, data.forget, steps)
    for layer in layers.values():
        layer.weight.requires_grad_(False)
    return bound, saliency


def _deployed(model: Any, mask: Mask, data: Data, config: Config, steps: Steps) -> Deployed | None:
    if not config.retain_after_nf4:
        return None
    with steps.step("The base's predictions after NF4", 1) as advance, products(config.training_products):
        after_nf4 = deployed(model, mask, data.retained)
        advance(1)
    return after_nf4


def _regions(
    family: Family, circuit: FaithfulCircuit, layers: Mapping[str, nn.Linear], config: Config
) -> dict[str, Tensor]:
    """Return where the mask may be taken from, bool by layer name."""
    count = family.graph.layers
    entry, read_out = round(config.entry_share * count), count - round(config.read_out_share * count)
    if config.mask == "circuit":
        return circuit_regions(family, circuit.circuit, layers, from_layer=entry, below_layer=read_out)
    if config.mask == "layers":
        return layer_regions(family, layers, from_layer=entry, below_layer=read_out)
    return everywhere(layers)


def _activations(
    model: Any, layers: Mapping[str, nn.Linear], data: Data, config: Config, steps: Steps
) -> tuple[Mapping[str, Tensor], NullSpace]:
    """Return the second moments of the retain activations (none where nothing needs them), and their null space."""
    if not (config.null_space or config.error_compensation):
        return {}, NullSpace.whole(layers)
    with steps.step("Null space of the retain activations", len(layers)) as advance:
        with products(config.training_products):
            moments = second_moments(model, layers, data.retained.prompts, [data.retained.texts])
        if not config.null_space:
            return moments, NullSpace.whole(layers)
        return moments, null_space(moments, energy=config.null_space_energy, progress=advance)


def _editable(model: Any, config: Config) -> dict[str, nn.Linear]:
    """Return the layers that every deployment profile quantizes, by name."""
    named = [{entry.name for entry in survey(model, skip_modules=skip).quantized} for skip in config.skips()]
    return {name: layer for name, layer in nf4_linears(model).items() if all(name in names for names in named)}


def weights_of(config: Config) -> Weights:
    """Return how the configuration weighs what is retained, and where it pulls answers."""
    return Weights(
        prompts=config.prompt_divergence_weight,
        text=config.text_divergence_weight,
        answers=config.answer_divergence_weight,
        shift=config.answer_shift_weight,
        level=config.answer_level,
    )


def schedule_of(config: Config) -> Schedule:
    """Return how long the configuration has the solver train, and how it has it snap."""
    return Schedule(
        steps=config.steps,
        steps_between=config.steps_between,
        extensions=config.extensions,
        learning_rate=config.learning_rate,
        rate_after_snap=config.rate_after_snap,
        rate_decay=config.rate_decay,
        products=config.training_products,
        snaps=config.snaps,
        floor=Floor(config.floor, progressive=config.progressive),
    )


def _solve(
    model: Any,
    base: Base,
    mask: Mask,
    objective: Objective,
    retained: Retention,
    data: Data,
    config: Config,
    steps: Steps,
    *,
    frontier: bool,
) -> Edit:
    geometries = tuple(dict.fromkeys(geometry_of(profile) for profile in config.profiles))
    schedule = schedule_of(config)
    bounds = Bounds(geometries, fisher_budget=config.fisher_budget if config.fisher else math.inf)
    finish = None  # of the other floors nothing lies on the lattice
    if config.floor == "levels":
        finish = finishing(data, objective.weights, config, steps.say, frontier=frontier)
    total = config.steps + config.steps_between * (len(config.snaps) - 1)
    snaps = schedule.floor.snaps

    def after_snap(free: int, changed: int) -> None:
        if free < mask.size:
            what = "snapped" if snaps else "fixed"
            steps.say(f"  {what}: {changed:,} of {mask.size:,} masked parameters moved, {free:,} still free")

    with steps.step("Training and snapping to NF4 levels" if snaps else "Training", total) as advance:
        edit = solve(
            model,
            nf4_linears(model),
            base.stored,
            mask,
            objective,
            retained,
            schedule=schedule,
            bounds=bounds,
            stopping=stopping(data, config),
            after_snap=after_snap,
            finish=finish,
            progress=advance,
        )
    if config.floor != "levels":
        return edit
    steps.say(
        f"  the least move that survives all {len(geometries)} deployment profiles is {edit.least_move:.3f} of a "
        f"block's absmax on average ({edit.least_move_first:.3f} for {_named(geometries[0])} alone)"
    )
    return edit


def _named(geometry: Geometry) -> str:
    cast = "" if geometry.cast == "none" else f" cast to {geometry.cast}"
    double = " with double quantization" if geometry.double_quant else ""
    return f"blocks of {geometry.block_size}{cast}{double}"
