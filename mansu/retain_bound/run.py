"""One call: base, edited model, retain set → every constant, the bounds, and the measured change."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import mansu
from mansu.base import open_base, open_language
from mansu.config import Config
from mansu.progress import Advance, Steps
from mansu.request import read_request
from mansu.retain.fisher import fisher_losses
from mansu.retain_bound.divergence import ceiling
from mansu.retain_bound.document import Diagonal, RetainBound, SetBound, Which
from mansu.retain_bound.edit import Edits, read_edit
from mansu.retain_bound.fisher import half_cost, half_diagonals
from mansu.retain_bound.leak import Moments, by_block
from mansu.retain_bound.measure import Positions, bound, measure
from mansu.retain_bound.sets import Part, sample
from mansu.retain_bound.transfer import transfer
from mansu.seal.same_split import require_same_split
from verify.circuits.families import Family, gain


@dataclass(frozen=True, slots=True)
class Job:
    """What to compare, on how much: facts and texts of each half, and draws of the diagonal Fisher."""

    model: Path
    edited: Path
    retain: Path
    forget: Path | None
    config: Config
    prompts: int = 48
    texts: int = 8
    draws: int = 8


def retain_bound(job: Job, *, steps: Steps) -> RetainBound:
    """Compute the bounds of an edit and measure what they bound.

    Raises `UsageError` ME210 (a model's folder), ME350 (no edit of linear layers), ME201 to ME204 and ME351 (sets),
    ME352 (another seed than the edit's).
    """
    if job.forget is not None:
        seed = job.config.seed
        require_same_split(job.edited, read_request(job.forget, job.retain, seed=seed), seed)
    base = open_base(job.model)
    language, family = open_language(base)
    model = language.model
    edits = read_edit(base, model, job.edited)
    # sdpa has no forward derivative
    model.set_attn_implementation("eager")
    with steps.step("Retain data", 1) as advance:
        data = sample(
            model, language.tokenizer, job.retain, job.forget, job.config, prompts=job.prompts, texts=job.texts
        )
        advance(1)
    moments = Moments()
    found: dict[tuple[Which, bool], Positions] = {}
    for which, held_out, title in _SETS:
        part = data.held_out if held_out else data.known
        batches = part.prompt_batches() if which == "prompts" else part.text_batches()
        with steps.step(title, len(batches)) as advance:
            listen = None if held_out else moments.listen
            found[which, held_out] = measure(model, edits, batches, listen=listen, progress=advance)
    with steps.step("Null space", 1) as advance:
        leaks = by_block(edits, moments.splits(edits, job.config.null_space_energy))
        advance(1)
    sets = tuple(bound(found[which, held_out], edits, which, held_out=held_out) for which, held_out, _ in _SETS)
    with steps.step("Diagonal Fisher", 1 + 2 * job.draws) as advance:
        diagonals = _diagonals(model, edits, data.known, sets, job, advance)
        cost = _engine_cost(model, edits, data.known, job)
        advance(1)
    new = found["prompts", True]
    return RetainBound(
        engine=mansu.__version__,
        model=job.model.name,
        edited=str(job.edited),
        retain_sha256=data.retain_sha256,
        split=data.split,
        seed=job.config.seed,
        moved=sum(edit.indices.numel() for edit in edits.values()),
        layers=len(edits),
        sets=sets,
        leaks=leaks,
        diagonals=diagonals,
        engine_cost=cost,
        transfer=transfer(sets[0], new, new.leaks.mean(0).sqrt(), job.config.seed),
        ceiling=_ceiling(model, family),
        exceeded=sum(each.exceeded for each in sets),
    )


_SETS: tuple[tuple[Which, bool, str], ...] = (
    ("prompts", False, "Known prompts"),
    ("texts", False, "Known texts"),
    ("prompts", True, "Held-out prompts"),
    ("texts", True, "Held-out texts"),
)


def _diagonals(
    model: Any, edits: Edits, known: Part, sets: tuple[SetBound, ...], job: Job, advance: Advance
) -> tuple[Diagonal, ...]:
    generator = torch.Generator().manual_seed(job.config.seed)
    found = []
    for each, batches in zip(sets[:2], (known.prompt_batches(), known.text_batches()), strict=True):
        draws = half_diagonals(model, edits, batches, job.draws, generator)
        mean = float(draws.mean())
        error = float(draws.std()) / job.draws**0.5
        diagonal = Diagonal(
            which=each.which,
            half_diagonal=mean,
            standard_error=error,
            coherence=each.half_fisher / mean if mean else 0.0,
        )
        found.append(diagonal)
        advance(job.draws)
    return tuple(found)


def _engine_cost(model: Any, edits: Edits, known: Part, job: Job) -> float:
    """Return ½ Σ F̂Δ², F̂ the engine's estimate on this sample: squared gradients of the loss of mini-batches."""
    rng = random.Random(job.config.seed)  # noqa: S311  (batches, not secrets)
    losses = fisher_losses(model, known.prompts, known.texts, rng, job.draws)
    costs = [half_cost(model, edits, loss) for loss in losses]
    return sum(costs) / len(costs)


def _ceiling(model: Any, family: Family) -> float:
    head = model.get_output_embeddings()
    return ceiling(head.weight, gain(model, family.final_norm))
