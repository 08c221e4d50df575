"""Attributions as a plan: which model, with which of the base's layers, on which pairs; each is run once.

An attribution costs seconds to minutes; a job that must give the scores of another one is never run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor

from verify.behaviour.loading import Language
from verify.behaviour.probes import Probes, token_pairs
from verify.checks.certificate import Certificate
from verify.checks.models import Models, edited_layers, random_edit
from verify.circuits import (
    Circuit,
    EdgeScores,
    Family,
    Pair,
    Subject,
    attribute,
    checked,
    describe,
    swapped,
    top_edges,
)

REFERENCE_SHARE = 0.05
"""Share of the base's edges, by |score|, that CAD is read on (docs/cad.md)."""

POINTS = 5
SEED = 0

Which = Literal["base", "base_nf4", "edited", "edited_nf4", "random"]
Set = Literal["forget", "half", "retain"]
Progress = Callable[[int, int], None]
"""Called with the pairs attributed so far, and of how many."""


class Job(NamedTuple):
    """One attribution: a model, the first layer lent by the base (the number of layers: none), and the pairs.

    "half" is every second forget pair: the depth profile is read on it, at half the cost.
    """

    model: Which
    from_layer: int
    pairs: Set


@dataclass(frozen=True, eq=False)
class Scored:
    """One attribution: mean scores, and the circuit's cells for each pair, float32 [pairs, cells, 1]."""

    edges: EdgeScores
    cells: Tensor


@dataclass(frozen=True, eq=False)
class Study:
    """What is compared: the models, their anatomy, the layers where each differs from the base, and the pairs."""

    models: Mapping[Which, Language]
    family: Family
    differs: Mapping[Which, frozenset[int]]
    pairs: Mapping[Set, Sequence[Pair]]

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.family.graph.layers

    def needed(self, job: Job) -> Job:
        """Return the job that gives the same scores with the least swapping.

        Layers in which a model equals the base make no difference, and its read-out is always the base's: neither
        the mask nor NF4 touches it.
        """
        left = [layer for layer in self.differs[job.model] if layer < job.from_layer]
        if not left:
            return Job("base", self.layers, job.pairs)
        whole = len(left) == len(self.differs[job.model])
        return job._replace(from_layer=self.layers if whole else max(left) + 1)


def prepare(certificate: Certificate, models: Models, probes: Probes, *, margin: float) -> Study:
    """Make the random edit and tokenize the pairs.

    Raises UsageError for an architecture without a circuit definition, ArtefactError MV301 for unusable pairs.
    """
    family = describe(models.base.model)
    layers = family.graph.layers
    every = frozenset(range(layers))
    edited = edited_layers(certificate.ledger.entries, family.layers, layers)
    forget = token_pairs(models.base.tokenizer, probes, "forget")
    return Study(
        models={
            "base": models.base,
            "base_nf4": models.base_nf4,
            "edited": models.edited,
            "edited_nf4": models.edited_nf4,
            "random": random_edit(certificate, models.base, margin=margin, seed=SEED),
        },
        family=family,
        differs={"base": frozenset(), "base_nf4": every, "edited": edited, "edited_nf4": every, "random": edited},
        pairs={
            "forget": forget,
            "half": forget[::2],
            "retain": token_pairs(models.base.tokenizer, probes, "retain"),
        },
    )


def run(
    study: Study, jobs: Sequence[Job], progress: Progress, *, known: Mapping[Set, Circuit] | None = None
) -> dict[Job, Scored]:
    """Run every distinct job once; those on half the pairs are cut from the whole where the whole is there.

    Jobs of the base come first, for its circuits cut the others' scores; `known` are its circuits from an earlier run.
    Model by model, so that models need not all be in memory: those of the study may be loaded as they are asked for.
    """
    needed = list(dict.fromkeys(study.needed(job) for job in jobs))
    whole = set(needed)
    to_run = [job for job in needed if job.pairs != "half" or job._replace(pairs="forget") not in whole]
    first = list(dict.fromkeys(job.model for job in to_run))
    # a stable sort: the base, whose circuits cut the others' scores, stays first
    to_run.sort(key=lambda job: first.index(job.model))
    total = sum(len(study.pairs[job.pairs]) for job in to_run)
    scored: dict[Job, Scored] = {}
    done = 0
    circuits: dict[Set, Circuit] = dict(known or {})
    subject: Subject | None = None
    for at, job in enumerate(to_run):
        if subject is None or job.model != to_run[at - 1].model:
            subject = None  # before the next one is loaded
            # each model once: what the base lends to another was checked as the base's
            subject = checked(study.models[job.model].model)

        def advance(count: int, _: int, start: int = done) -> None:
            progress(start + count, total)

        edges = _attribute(study, job, subject, advance)
        done += len(study.pairs[job.pairs])
        if job.model == "base":
            circuits[job.pairs] = reference_circuit(edges)
        scored[job] = _cut(edges, circuits["forget" if job.pairs == "half" else job.pairs])
    for job in needed:
        if job not in scored:
            full = scored[job._replace(pairs="forget")]
            scored[job] = replace(full, cells=full.cells[::2])
    return scored


def _attribute(study: Study, job: Job, subject: Subject, progress: Progress) -> EdgeScores:
    pairs = study.pairs[job.pairs]
    if job.from_layer == study.layers:
        return attribute(subject, pairs, points=POINTS, per_example=True, progress=progress)
    with swapped(subject.model, study.models["base"].model, job.from_layer):
        return attribute(subject, pairs, points=POINTS, per_example=True, progress=progress)


def reference_circuit(edges: EdgeScores) -> Circuit:
    """Return the base's circuit: its strongest edges, pruned to those on a path to the logits."""
    return top_edges(edges, int(REFERENCE_SHARE * int(edges.real.sum())))


def _cut(edges: EdgeScores, circuit: Circuit) -> Scored:
    """Keep only the circuit's cells of each pair's scores: all edges of all pairs would not fit in memory."""
    assert edges.per_example is not None
    cells = edges.per_example[:, circuit.edges][:, :, None].clone()
    return Scored(replace(edges, per_example=None), cells)
