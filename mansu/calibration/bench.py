"""Measuring models against the base: accuracy, and CAD with nothing, the read-out and the late layers lent.

Everything is paired: the same prompts, corrupt partners, integration points and edges as the base's own scores.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mansu.calibration.document import Reading, Role, Row
from mansu.data.examples import draw
from mansu.progress import Steps
from verify.behaviour.axes import choose
from verify.behaviour.loading import Language
from verify.behaviour.probes import Probes, token_pairs
from verify.behaviour.statistics import proportion
from verify.checks.erasure import require_signal
from verify.checks.measured import DECIDING
from verify.checks.study import POINTS, SEED, reference_circuit
from verify.circuits import (
    Circuit,
    EdgeScores,
    Family,
    Pair,
    Subject,
    attribute,
    bootstrap,
    checked,
    compare,
    random_edges,
    split_half_floor,
    swapped,
)
from verify.circuits.cad import Interval
from verify.contract.schema import Estimate

_EMBEDDING = -1
_ASKED = 120


@dataclass(frozen=True, eq=False)
class Scores:
    """A model's mean scores, and those of each pair on both sets of edges, float32 `[pairs, cells, 1]`."""

    edges: EdgeScores
    circuit: Tensor
    others: Tensor


@dataclass(frozen=True, eq=False)
class Bench:
    """The base with its scores, and what every model is measured on.

    `circuit` is the reference circuit, `others` as many edges drawn at random; `late` the first of the late layers.
    """

    base: Language
    family: Family
    probes: Probes
    pairs: Sequence[Pair]
    late: int
    circuit: Circuit
    others: Circuit
    reference: Scores

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.family.graph.layers

    @property
    def floor(self) -> float:
        """CAD between two halves of the base's own pairs: what sampling alone does."""
        return split_half_floor(self.reference.circuit, None, SEED)


def set_up(language: Language, family: Family, probes: Probes, *, late: int, steps: Steps) -> Bench:
    """Attribute the base and choose both sets of edges; raises UndecidedError where scores explain nothing."""
    pairs = token_pairs(language.tokenizer, probes, "forget")
    with steps.step("base: attributing edges", len(pairs)) as advance:
        edges = attribute(language.model, pairs, points=POINTS, per_example=True)
        advance(len(pairs))
    require_signal(edges.residual)
    circuit = reference_circuit(edges)
    others = random_edges(edges.graph, circuit.size, SEED)
    return Bench(language, family, probes, pairs, late, circuit, others, _kept(edges, circuit, others))


def asked(probes: Probes, seed: int) -> Probes:
    """Return the probes with as many choices of each axis as every model is asked.

    Of forgetting those rows that decide a certificate, or all if none does.
    """
    deciding = [choice for choice in probes.choices if choice.axis == "forgetting" and choice.row.endswith(DECIDING)]
    others = [choice for choice in probes.choices if choice.axis == "forgetting"]
    retained = [choice for choice in probes.choices if choice.axis == "retention"]
    rng = random.Random(seed)  # noqa: S311  (a sample, not a secret)
    kept = [choices[i] for choices in (deciding or others, retained) for i in sorted(draw(rng, len(choices), _ASKED))]
    return replace(probes, choices=tuple(kept))


def accuracy(language: Language, probes: Probes, axis: Literal["forgetting", "retention"]) -> Estimate | None:
    """Return the share of right answers on an axis, or None where nothing is asked."""
    choices = [choice for choice in probes.choices if choice.axis == axis]
    return proportion(choose(language, choices, probes.pools).correct) if choices else None


def measured(bench: Bench, language: Language, label: str, role: Role, *, nf4: bool = False, steps: Steps) -> Row:
    """Measure one model. What gives the same scores is attributed once, and what is the base again not at all."""
    changed = changes(bench.base.model, language.model, bench.family)
    depths = (None, bench.layers, bench.late)
    left = {depth: frozenset(part for part in changed if depth is None or part < depth) for depth in depths}
    found: dict[frozenset[int], Scores] = {frozenset(): bench.reference}
    distinct = sum(1 for parts in set(left.values()) if parts)
    with steps.step(f"{label}: measuring", 1 + distinct) as advance:
        forget = accuracy(language, bench.probes, "forgetting")
        retain = accuracy(language, bench.probes, "retention")
        advance(1)
        subject = checked(language.model)
        for depth, parts in left.items():
            if parts not in found:
                found[parts] = _scores(bench, subject, depth)
                advance(1)
    assert forget is not None
    whole, read_out, late = (_reading(bench, found[left[depth]], depth) for depth in depths)
    return Row(
        label=label,
        role=role,
        precision="nf4" if nf4 else "full",
        changed=sum(changed.values()),
        forget=forget,
        retain=retain,
        whole=whole,
        read_out=read_out,
        late=late,
        random_edges=_reading(bench, found[left[None]], None, at_random=True),
    )


@torch.no_grad()
def changes(base: Any, other: Any, family: Family) -> dict[int, int]:
    """Count the values that differ, by part: −1 the embedding, l a decoder layer, the number of layers the read-out.

    Parts that are the base's do not occur.
    """
    before = base.state_dict()
    counts: dict[int, int] = {}
    for name, after in other.state_dict().items():
        if after.data_ptr() != before[name].data_ptr():
            count = int((after != before[name]).sum())
            if count:
                part = _part(name, family)
                counts[part] = counts.get(part, 0) + count
    return counts


def _part(name: str, family: Family) -> int:
    if name.startswith(f"{family.layers}."):
        return int(name.removeprefix(f"{family.layers}.").partition(".")[0])
    if name.startswith((f"{family.final_norm.name}.", f"{family.unembedding}.")):
        return family.graph.layers
    return _EMBEDDING


def _scores(bench: Bench, subject: Subject, from_layer: int | None) -> Scores:
    if from_layer is None:
        edges = attribute(subject, bench.pairs, points=POINTS, per_example=True)
    else:
        with swapped(subject.model, bench.base.model, from_layer):
            edges = attribute(subject, bench.pairs, points=POINTS, per_example=True)
    return _kept(edges, bench.circuit, bench.others)


def _kept(edges: EdgeScores, circuit: Circuit, others: Circuit) -> Scores:
    """Keep what is compared: the scores of all edges of all pairs of several models would not fit in memory."""
    assert edges.per_example is not None
    one, two = (edges.per_example[:, chosen.edges][:, :, None].clone() for chosen in (circuit, others))
    return Scores(replace(edges, per_example=None), one, two)


def _reading(bench: Bench, scores: Scores, from_layer: int | None, *, at_random: bool = False) -> Reading:
    reference = bench.reference
    over = bench.others if at_random else bench.circuit
    before, after = (each.others if at_random else each.circuit for each in (reference, scores))
    intervals = bootstrap(before, after, None, seed=SEED)
    return Reading(
        from_layer=from_layer,
        cad=_estimate(intervals.cad, len(bench.pairs)),
        rho=_estimate(intervals.rho, len(bench.pairs)),
        mass=_estimate(intervals.mass, len(bench.pairs)),
        relative_l1=compare(reference.edges, scores.edges, over).relative_l1,
    )


def _estimate(interval: Interval, count: int) -> Estimate:
    return Estimate(value=interval.estimate, low=interval.low, high=interval.high, n=count)
