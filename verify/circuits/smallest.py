"""The smallest circuit that does alone what the model does: a search over sizes, by what each size's circuit keeps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from verify.circuits.circuit import Circuit, full_circuit
from verify.circuits.extraction import Extraction, top_edges
from verify.circuits.invariants import subject_of
from verify.circuits.pairs import Pair
from verify.circuits.patching import faithfulness_of, prepare_study
from verify.circuits.running import Progress, Subject, frozen
from verify.circuits.scores import EdgeScores
from verify.errors import UsageError

MAX_EVALUATIONS = 12
# Bisection stops once the two ends lie this close, and a found size is confirmed at this much larger a size.
_PRECISION = 1.05
_CONFIRMATION = 1.25


@dataclass(frozen=True)
class Step:
    """One evaluation of the search: the `n` asked for, the `edges` left after pruning, their faithfulness."""

    n: int
    edges: int
    faithfulness: float


@dataclass(frozen=True, eq=False)
class FaithfulCircuit:
    """The smallest circuit found.

    `reached`: its faithfulness, and that of every larger circuit tried, is at least `target`.
    `trace`: every evaluation, in the order made.
    """

    circuit: Circuit
    faithfulness: float
    target: float
    reached: bool
    trace: tuple[Step, ...]


def smallest_faithful(
    model: nn.Module | Subject,
    scores: EdgeScores,
    pairs: Sequence[Pair],
    *,
    target: float = 0.85,
    extract: Extraction = top_edges,
    batch_size: int = 20,
    progress: Progress | None = None,
) -> FaithfulCircuit:
    """Search the smallest n whose circuit reaches `target` on (held-out) `pairs`, by the metric that was attributed.

    `extract` makes the circuits: the top n edges, pruned, or those grown from the logits (`greedy_edges`).
    Bisection of log n; because the curve is not monotone, a size counts only if a 1.25 times larger one reaches the
    target too, otherwise the search goes on above that one. At most 12 evaluations, `progress(done, 12)` after each;
    12 is an upper bound. Errors as in `faithfulness`; `UsageError` also when `target` is not in (0, 1].
    """
    if not 0 < target <= 1:
        raise UsageError("the faithfulness target must lie in (0, 1]", found=str(target))
    trace: dict[int, Step] = {}
    circuits: dict[int, Circuit] = {}
    total = int(scores.real.sum())
    subject = subject_of(model)
    with frozen(subject.model), torch.no_grad():
        study = prepare_study(subject, pairs, scores.metric, batch_size)

        def reaches(n: int) -> bool:
            if n not in trace:
                circuits[n] = full_circuit(scores.graph) if n >= total else extract(scores, n)
                trace[n] = Step(n, circuits[n].size, faithfulness_of(study, circuits[n]))
                if progress is not None:
                    progress(len(trace), MAX_EVALUATIONS)
            return trace[n].faithfulness >= target

        n = _search(reaches, total, MAX_EVALUATIONS)
        reached = reaches(n)
    return FaithfulCircuit(circuits[n], trace[n].faithfulness, target, reached, tuple(trace.values()))


def _search(reaches: Callable[[int], bool], total: int, budget: int) -> int:
    """Return the smallest size tested from which on every size tested `reaches`; at most `budget` − 1 tests.

    The full circuit, `total`, counts as tested: it reaches by identity.
    """
    outcomes = {total: True}
    low, high = 1, total
    for _ in range(budget - 1):
        settled = high <= max(low + 1, low * _PRECISION)
        middle = min(max(round(math.sqrt(low * high)), low + 1), high - 1)
        n = min(math.ceil(high * _CONFIRMATION), total) if settled else middle
        if n in outcomes:
            break
        outcomes[n] = reaches(n)
        if not outcomes[n]:
            low, high = n, min(size for size, reached in outcomes.items() if reached and size > n)
        elif settled:
            break
        else:
            high = n
    return min(n for n in outcomes if all(reached for size, reached in outcomes.items() if size >= n))
