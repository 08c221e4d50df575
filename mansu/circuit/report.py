"""`mansu circuit`: the circuit of a forget set as a document and as a picture, before and after an edit.

The one module of the engine that uses `reports`: what it draws is drawn the same way in a certificate's report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mansu
from mansu.base import Base, open_base, open_language
from mansu.circuit.search import attributed, smallest, split_pairs
from mansu.data.probes import training_pairs
from mansu.progress import Steps
from mansu.request import pools, read_forget, require_answer_tokens, require_choices
from reports import render_circuit
from verify.artefact import write_atomic
from verify.behaviour.loading import Language
from verify.checks.circuit_map import circuit_map, node_scores
from verify.checks.erasure import require_signal
from verify.checks.study import SEED, reference_circuit
from verify.circuits import Circuit, EdgeScores, FaithfulCircuit, Pair, bootstrap, compare, describe, nodes
from verify.contract.circuit import (
    Attributed,
    CircuitDocument,
    Comparison,
    Divergences,
    EdgeScore,
    NodeScore,
    SearchStep,
)
from verify.contract.schema import Estimate, FileDigest
from verify.errors import UsageError


@dataclass(frozen=True, slots=True)
class Job:
    """What to find and where to write it; `pairs` are attributed, half as many others judge the circuit."""

    model: Path
    forget: Path
    out: Path
    svg: Path | None = None
    after: Path | None = None
    pairs: int = 60
    target: float = 0.85
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Scored:
    """A model's scores with the digests of its files."""

    files: Mapping[str, str]
    scores: EdgeScores


def report(job: Job, *, steps: Steps) -> tuple[CircuitDocument, str]:
    """Find the circuit, compare the edited model if there is one, write the files, and return what was found.

    Raises `UsageError`: ME242 for the outputs, before any work; ME201, ME202, ME204, ME214 (set); ME210 for the model's
    folder; ME211 when the model does not know the set; ME212 for too few pairs; ME241 for an edited model of another
    shape. `UndecidedError` where scores or faithfulness are undefined. Files are written whole or not at all.
    """
    _refuse_outputs(job)
    facts, forget_sha256 = read_forget(job.forget)
    base, language = _open(job.model, steps)
    require_answer_tokens(language.tokenizer, facts)
    pool_of = pools(facts)
    require_choices(language.tokenizer, pool_of)
    held_out = max(2, job.pairs // 2)
    found = training_pairs(facts, pool_of, language.tokenizer, count=job.pairs + held_out, seed=job.seed)
    first, rest = split_pairs(found, job.pairs, held_out)
    before = _Scored(base.digests(), _attributed(language, first, job, steps, "Attributing edges (EAP-IG)"))
    _refuse_unknown(before.scores)
    circuit = smallest(language.model, before.scores, rest, job.target, steps=steps)
    vocabulary = describe(language.model).vocabulary
    del language  # two models need not be in memory at once
    after = _edited(job, job.after, before.scores, vocabulary, steps) if job.after else None
    document = CircuitDocument(
        engine=f"mansu {mansu.__version__}",
        model=_described(before),
        forget_sha256=forget_sha256,
        facts=len(facts),
        rule=before.scores.rule,
        points=before.scores.points,
        seed=job.seed,
        pairs=len(first),
        held_out_pairs=len(rest),
        edges_total=int(before.scores.real.sum()),
        target=circuit.target,
        faithfulness=circuit.faithfulness,
        reached=circuit.reached,
        trace=tuple(SearchStep(asked=s.n, edges=s.edges, faithfulness=s.faithfulness) for s in circuit.trace),
        nodes=_nodes(before.scores, after.scores if after else None, circuit.circuit),
        edges=_edges(before.scores, after.scores if after else None, circuit.circuit),
        after=_compared(before, after, circuit) if after else None,
        map=circuit_map(before.scores, after.scores if after else None),
    )
    write_atomic(job.out, (document.model_dump_json(indent=1, by_alias=True) + "\n").encode())
    if job.svg is not None:
        write_atomic(job.svg, render_circuit(document.map, notes(document)).encode())
    return document, summary(document, job)


def summary(document: CircuitDocument, job: Job) -> str:
    """Say in a few lines what was found and written, and clearly where the target was not reached."""
    size = f"{len(document.edges):,} of {document.edges_total:,} edges"
    reached = "reached" if document.reached else "NOT REACHED by any circuit tried"
    residual = f"completeness residual {document.model.completeness_residual:.3f} on {document.pairs} pairs"
    rows = document.after.divergences if document.after else ()
    return "\n".join(
        [
            f"circuit: {size} keep {document.faithfulness:.3f} of the metric on {document.held_out_pairs} other pairs",
            f"target {document.target:.3f} {reached}; {residual}",
            *map(_divergence_line, rows),
            *(f"written: {path}" for path in (job.out, job.svg) if path),
        ]
    )


def notes(document: CircuitDocument) -> list[str]:
    """Return the lines beneath the picture."""
    size = f"{len(document.edges):,} of {document.edges_total:,} edges"
    found = f"Smallest faithful circuit: {size}, faithfulness {document.faithfulness:.3f}"
    if document.after is None:
        return [found]
    row = document.after.divergences[0]
    return [found, f"Over it: CAD {_interval(row.cad)}, ρ {_interval(row.rho)}, mass {row.mass:.3f}"]


def _divergence_line(row: Divergences) -> str:
    measured = f"CAD {_interval(row.cad)}, ρ {_interval(row.rho)}, mass {row.mass:.3f}"
    return f"after the edit, over {row.over} ({row.edges:,} edges): {measured}"


def _interval(value: Estimate) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _refuse_outputs(job: Job) -> None:
    outputs = [path.resolve() for path in (job.out, job.svg) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise _refused("two outputs have one name", "a name of its own for each", str(job.out))
    for path in outputs:
        if path == job.forget.resolve():
            raise _refused("an output is the forget set itself", "another name", str(path))
        if any(path.is_relative_to(folder.resolve()) for folder in (job.model, job.after) if folder is not None):
            raise _refused("an output lies inside a model's folder", "a place outside of it", str(path))
        if path.is_dir() or not path.parent.is_dir():
            raise _refused("an output cannot be written there", "a file in a folder that exists", str(path))


def _refused(what: str, expected: str, found: str) -> UsageError:
    remedy = "correct the command; mansu circuit --help describes it"
    return UsageError(what, expected=expected, found=found, remedy=remedy, error_id="ME242")


def _open(folder: Path, steps: Steps) -> tuple[Base, Language]:
    with steps.step(f"Reading {folder.name or 'the model'}", 1) as advance:
        base = open_base(folder)
        language, _ = open_language(base)
        advance(1)
    return base, language


def _attributed(language: Language, pairs: Sequence[Pair], job: Job, steps: Steps, title: str) -> EdgeScores:
    scores = attributed(language.model, pairs, steps=steps, title=title, per_example=job.after is not None)
    require_signal(scores.residual)
    return scores


def _refuse_unknown(scores: EdgeScores) -> None:
    clean, corrupt = float(scores.metric_clean.mean()), float(scores.metric_corrupt.mean())
    if clean <= corrupt:
        raise UsageError(
            "the model does not know the forget set: there is no circuit to find",
            expected="answers that lead their alternatives more on clean prompts than on corrupt ones",
            found=f"by {clean:.3g} and {corrupt:.3g} logits on average over {len(scores.pairs)} pairs",
            remedy="check the prompts and answers for this model; nothing was written",
            error_id="ME211",
        )


def _edited(job: Job, folder: Path, before: EdgeScores, vocabulary: int, steps: Steps) -> _Scored:
    edited, language = _open(folder, steps)
    family = describe(language.model)
    if (family.graph, family.vocabulary) != (before.graph, vocabulary):
        raise UsageError(
            "the edited model is not of the base's shape",
            expected=f"{before.graph}, {vocabulary} tokens",
            found=f"{family.graph}, {family.vocabulary} tokens",
            remedy="give the folder of a model that was made from this base",
            error_id="ME241",
        )
    title = "Attributing the edited model's edges"
    return _Scored(edited.digests(), _attributed(language, before.pairs, job, steps, title))


def _described(scored: _Scored) -> Attributed:
    return Attributed(
        files=tuple(FileDigest(name=name, sha256=sha256) for name, sha256 in scored.files.items()),
        metric_clean=float(scored.scores.metric_clean.mean()),
        metric_corrupt=float(scored.scores.metric_corrupt.mean()),
        completeness_residual=scored.scores.residual,
    )


def _nodes(before: EdgeScores, after: EdgeScores | None, circuit: Circuit) -> tuple[NodeScore, ...]:
    """Return every node with the sum of its outgoing edges; of the logits, of the edges into them."""
    touched = nodes(circuit)
    later = [None] * (len(before.writers) + 1) if after is None else node_scores(after).tolist()
    return tuple(
        NodeScore(name=name, score=score, after=other, in_circuit=name in touched)
        for name, score, other in zip([*before.writers, "logits"], node_scores(before).tolist(), later, strict=True)
    )


def _edges(before: EdgeScores, after: EdgeScores | None, circuit: Circuit) -> tuple[EdgeScore, ...]:
    """Return the circuit's edges, the strongest first."""
    cells = circuit.edges.nonzero()
    order = before.scores[circuit.edges].abs().argsort(descending=True, stable=True)
    return tuple(
        EdgeScore(
            writer=before.writers[row],
            reader=before.readers[column],
            score=float(before.scores[row, column]),
            after=None if after is None else float(after.scores[row, column]),
        )
        for row, column in cells[order].tolist()
    )


def _compared(before: _Scored, after: _Scored, circuit: FaithfulCircuit) -> Comparison:
    """Compare over the circuit found, and over the one that the verifier reads CAD on."""
    reference = reference_circuit(before.scores)
    return Comparison(
        model=_described(after),
        divergences=(
            _divergences(before.scores, after.scores, circuit.circuit, "the circuit"),
            _divergences(before.scores, after.scores, reference, "the reference circuit"),
        ),
    )


def _divergences(
    before: EdgeScores, after: EdgeScores, circuit: Circuit, over: Literal["the circuit", "the reference circuit"]
) -> Divergences:
    divergence = compare(before, after, circuit)
    assert before.per_example is not None
    assert after.per_example is not None
    intervals = bootstrap(before.per_example, after.per_example, circuit, seed=SEED)
    count = len(before.pairs)
    return Divergences(
        over=over,
        edges=circuit.size,
        cad=Estimate(value=divergence.cad, low=intervals.cad.low, high=intervals.cad.high, n=count),
        rho=Estimate(value=divergence.rho, low=intervals.rho.low, high=intervals.rho.high, n=count),
        mass=divergence.mass,
        relative_l1=divergence.relative_l1,
    )
