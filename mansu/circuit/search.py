"""The circuit of a forget set: edges attributed on some pairs, the smallest faithful set of them found on others."""

from collections.abc import Sequence

from torch import nn

from mansu.progress import Steps
from verify.circuits import EdgeScores, FaithfulCircuit, Pair, attribute, smallest_faithful
from verify.circuits.smallest import MAX_EVALUATIONS
from verify.errors import UsageError


def split_pairs(pairs: Sequence[Pair], attributed: int, held_out: int) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Return the pairs to attribute and those to judge by, in the wanted proportion where there are too few.

    Raises `UsageError` ME212 for fewer than two.
    """
    if len(pairs) < 2:
        raise UsageError(
            "the forget set has no pairs to attribute: no two prompts of one wording and token length",
            expected='facts that differ in their subject only, or a "corrupt" prompt on each line',
            found=f"{len(pairs)} pairs",
            remedy='give each line a "corrupt" prompt of the same length in tokens',
            error_id="ME212",
        )
    cut = len(pairs) * attributed // (attributed + held_out) or 1
    return pairs[:cut], pairs[cut:]


def attributed(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    steps: Steps,
    title: str = "Attributing edges (EAP-IG)",
    per_example: bool = False,
) -> EdgeScores:
    """Score every edge, with a bar that counts pairs; errors as in `verify.circuits.attribute`."""
    with steps.step(title, len(pairs)) as advance:
        seen = 0

        def count(done: int, _: int) -> None:
            nonlocal seen
            advance(done - seen)
            seen = done

        return attribute(model, pairs, per_example=per_example, progress=count)


def smallest(
    model: nn.Module, scores: EdgeScores, pairs: Sequence[Pair], target: float, *, steps: Steps
) -> FaithfulCircuit:
    """Search the smallest circuit faithful on `pairs`; errors as in `verify.circuits.smallest_faithful`."""
    with steps.step("Searching the smallest faithful circuit", MAX_EVALUATIONS) as advance:
        return smallest_faithful(model, scores, pairs, target=target, progress=lambda _done, _total: advance(1))
