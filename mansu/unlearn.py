"""One call: request → circuit → mask → retain → solve → seal. Each step is a module with its own result object."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mansu import seal
from mansu.base import CPU, Base, open_base, open_language, working_copy
from mansu.circuit_search import attributed, smallest, split_pairs
from mansu.claims import forget_accuracy, measure_claims
from mansu.config import Config
from mansu.deployed import deployed
from mansu.finish import finishing
from mansu.floors import Floor
from mansu.frontier import Frontier
from mansu.mask import Mask, circuit_regions, everywhere, layer_regions, select
from mansu.masked import Bounds
from mansu.method import described
from mansu.objective import Objective, Sizes, Weights, retain_losses
from mansu.precision import products
from mansu.prepare import Data, prepare
from mansu.probes import held_out_probes, training_pairs
from mansu.progress import Steps
from mansu.request import read_request, require_held_out, require_tokens
from mansu.retain import Fisher, NullSpace, fisher, null_space, second_moments
from mansu.saliency import forget_gradient
from mansu.solve import Edit, Retention, Schedule, solve
from mansu.staging import refuse_existing, staging
from mansu.stopping import stopping
from verify.artefact.signing import Signer
from verify.behaviour.loading import Language
from verify.behaviour.modules import nf4_linears, survey
from verify.checks.permanence import geometry_of
from verify.circuits import FaithfulCircuit, Family, describe
from verify.contract.manifest import CircuitClaim
from verify.nf4.rows import Geometry


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an unlearning run came to; accuracies are on held-out wordings (where there are none, facts), as claimed.

    `frontier` holds the trials of the solver, on validation wordings.
    """

    out: Path
    changed: int
    parameters: int
    forget_accuracy: float
    forget_accuracy_nf4: float
    target: float
    frontier: Frontier | None = None

    @property
    def target_met(self) -> bool:
        """Whether the forget target is met in full precision and after NF4."""
        return max(self.forget_accuracy, self.forget_accuracy_nf4) <= self.target

    def summary(self) -> str:
        """Say in a few lines what was reached, and clearly where the target was not."""
        met = "met" if self.target_met else "NOT MET: the model still knows too much"
        return (
            f"forget accuracy on held-out wordings: {self.forget_accuracy:.3f} in full precision, "
            f"{self.forget_accuracy_nf4:.3f} after NF4\n"
            f"target {self.target:.3f} {met}\n"
            f"changed {self.changed:,} of {self.parameters:,} parameters ({self.changed / self.parameters:.4%})\n"
            f"certificate: {self.out}"
        )


def unlearn(
    base_folder: Path,
    forget: Path,
    retain: Path,
    signer: Signer,
    out: Path,
    config: Config,
    *,
    steps: Steps,
    policy_sha256: str | None = None,
    frontier: bool = False,
    device: torch.device = CPU,
) -> Outcome:
    """Run the whole pipeline and write the certificate to `out`.

    `policy_sha256` commits the certificate to the policy it is to be judged by (`Policy.sha256`).
    With `frontier` every trial is measured whole, and more are made to trace it. On another `device` than the CPU the
    circuit is found and the edit trained there; what is claimed is measured on the CPU, as the verifier measures it.
    Raises `UsageError`: ME201 to ME204, ME212 and ME213 for the sets, ME210 for the model's folder, ME211 when the
    model does not know the forget set, ME220 when `out` cannot be written. Nothing is left behind on any error.
    """
    refuse_existing(out)
    request = read_request(forget, retain, seed=config.seed)
    base = open_base(base_folder)
    language, _ = open_language(base, device)
    require_tokens(language.tokenizer, request)
    require_held_out(request)
    data = prepare(language, base, request, config, steps=steps)
    circuit = find_circuit(language, data, config, steps=steps)
    with staging(out) as folder:
        model = working_copy(language, base.stored)
        edit = edit_circuit(model, base, data, circuit, config, steps=steps, frontier=frontier)
        del model
        probes = held_out_probes(
            request,
            language.tokenizer,
            forget_pairs=config.forget_pairs,
            retain_pairs=config.retain_pairs,
            seed=config.seed,
        )
        evidence = seal.Evidence(request, config, described(config), _claim(circuit), policy_sha256)
        statement = seal.seal(
            folder,
            base,
            edit,
            probes,
            evidence,
            signer,
            lambda edited: measure_claims(language.to(CPU), edited, base.stored, probes, steps=steps),
        )
    parameters = sum(view.count for view in base.weights.tensors().values())
    claims = statement.predicate.claims
    accuracy, accuracy_nf4 = forget_accuracy(claims, "full"), forget_accuracy(claims, "nf4")
    points = Frontier(parameters=parameters, limit=config.forget_target / 2, points=edit.frontier)
    return Outcome(out, edit.size, parameters, accuracy, accuracy_nf4, config.forget_target, points)


def find_circuit(language: Language, data: Data, config: Config, *, steps: Steps) -> FaithfulCircuit:
    """Attribute the forget set to edges, and search the smallest circuit faithful on other pairs of it."""
    wanted = config.attribution_pairs + config.circuit_pairs
    pairs = training_pairs(data.request.forget.train, data.pools, language.tokenizer, count=wanted, seed=config.seed)
    first, rest = split_pairs(pairs, config.attribution_pairs, config.circuit_pairs)
    scores = attributed(language.model, first, steps=steps)
    return smallest(language.model, scores, rest, config.circuit_faithfulness, steps=steps)


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
    rng = random.Random(config.seed)  # noqa: S311  (batches, not secrets)
    weights = Weights(
        prompts=config.prompt_divergence_weight,
        text=config.text_divergence_weight,
        answers=config.answer_divergence_weight,
        level=config.answer_level,
    )
    sizes = Sizes().halved() if config.retain_after_nf4 else Sizes()
    objective = Objective(data.forget, data.retained, weights, sizes, rng, data.contexts)
    for layer in inside.values():
        layer.weight.requires_grad_(True)
    with products(config.training_products):
        with steps.step("Diagonal Fisher of what is retained", config.fisher_batches) as advance:
            bound = fisher(inside, retain_losses(objective, model, config.fisher_batches), progress=advance)
        saliency = forget_gradient(model, inside, data.forget, steps)
    for layer in inside.values():
        layer.weight.requires_grad_(False)
    moments, space = _activations(model, inside, data, config, steps)
    parameters = sum(view.count for view in base.weights.tensors().values())
    size = int(config.mask_share * parameters)
    mask = select(
        inside,
        base.stored,
        regions,
        saliency,
        bound if config.fisher else Fisher.flat(inside),
        space,
        choice=config.mask,
        size=size,
        parameters=parameters,
        seed=config.seed,
        holders=config.floor == "unfrozen",
    )
    kept = (
        {name: moments[name].cpu() for name in mask.indices}
        if config.error_compensation and config.floor == "levels"
        else None
    )
    after_nf4 = None
    if config.retain_after_nf4:
        with steps.step("The base's predictions after NF4", 1) as advance:
            after_nf4 = deployed(model, mask, data.retained)
            advance(1)
    retained = Retention(bound.at(mask.indices), space, kept, after_nf4)
    del saliency, bound, moments  # one value for every parameter of the circuit and more, and not needed any more
    return _solve(model, base, mask, objective, retained, data, config, steps, frontier=frontier)


def _regions(
    family: Family, circuit: FaithfulCircuit, layers: Mapping[str, nn.Linear], config: Config
) -> dict[str, torch.Tensor]:
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
) -> tuple[Mapping[str, torch.Tensor], NullSpace]:
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
    schedule = Schedule(
        steps=config.steps,
        steps_between=config.steps_between,
        learning_rate=config.learning_rate,
        rate_after_snap=config.rate_after_snap,
        rate_decay=config.rate_decay,
        products=config.training_products,
        snaps=config.snaps,
        floor=Floor(config.floor, progressive=config.progressive),
    )
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


def _claim(circuit: FaithfulCircuit) -> CircuitClaim:
    return CircuitClaim(
        edges=circuit.circuit.size,
        edges_total=int(circuit.circuit.graph.real.sum()),
        faithfulness=circuit.faithfulness,
        target=circuit.target,
        reached=circuit.reached,
    )
