"""What questions can decide at all: enough that differ (MV309), and a base that really knows the answers (MV303)."""

from collections import Counter
from collections.abc import Iterable, Sequence

from verify.behaviour.wording import plain
from verify.checks.catalog import failed, passed, undecided
from verify.checks.measured import DECIDING, Measured, chance, deciding_rows, places, prose_rows, rows_of
from verify.contract.policy import Policy
from verify.contract.result import AxisRow, CheckResult

MORE = "more held-out probes are needed: ask the producer, or give your own with --probes"

_AXES = ("forgetting", "retention")


def positive_control(measured: Measured, rows: Iterable[AxisRow], policy: Policy) -> CheckResult:
    """MV303: the base answers every forgetting row, under NF4 too; otherwise there was nothing to forget.

    More than guessing would, or the same answer to every question: who says one word to all of them knows nothing.
    """
    expected = (
        f"accuracy under NF4 at least {policy.base_knows:.3f} on every forgetting row, and in both precisions surely "
        "more than without knowledge"
    )
    found = []
    for row in rows:
        blind = guessed(measured, "forgetting", row.row)
        shown = f"{row.base_nf4.value:.3f} on {row.row!a}"
        if row.base_nf4.value < policy.base_knows:
            shown += ": the base did not know it, so nothing is shown"
            return undecided("MV303", expected, shown, "ask for probes that the base under NF4 can answer")
        if min(row.base.low, row.base_nf4.low) <= blind:
            shown += f", where guessing or one answer to all gets {blind:.3f}: nothing shows that the base knew it"
            return undecided("MV303", expected, shown, "ask for probes with more, and more different, answers")
        found.append(shown)
    return passed("MV303", expected, ", ".join(found) or "no row")


def guessed(measured: Measured, axis: str, row: str) -> float:
    """Return what a model without knowledge gets of a row: by chance, or by always giving its commonest answer."""
    at = places(measured.probes, axis, row)
    if not at:
        return 0.0
    commonest = Counter(measured.asked.answers[i] for i in at).most_common(1)[0][1]
    return max(commonest / len(at), chance(measured, axis, row))


def enough_probes(measured: Measured, policy: Policy) -> CheckResult:
    """MV309: every kind of row exists, and every row has enough probes to decide anything, none of them twice."""
    probes = measured.probes
    expected = f"at least {policy.minimum_probes} probes in every row, all distinct, and rows of every kind"
    kinds = (
        (f"forgetting, {DECIDING}", deciding_rows(probes)),
        ("retention", rows_of(probes, "retention")),
        ("prose", prose_rows(probes)),
    )
    missing = [kind for kind, rows in kinds if not rows]
    if missing:
        return failed("MV309", expected, f"no row of {', '.join(missing)}", MORE)
    counts: dict[tuple[str, str], tuple[int, int]] = {
        (axis, row): (len(places(probes, axis, row)), distinct(measured, axis, row))
        for axis in _AXES
        for row in rows_of(probes, axis)
    }
    for row in prose_rows(probes):
        counts["prose", row] = (sum(text.row == row for text in probes.texts), distinct_texts(measured, row))
    twice = next((name for name, (all_of_it, different) in counts.items() if all_of_it > different), None)
    if twice is not None:  # it weighs more than the others, and narrows an interval without being evidence
        found = f"{counts[twice][0]} probes, {counts[twice][1]} of them distinct, in {twice[1]!a}"
        return undecided("MV309", expected, found, "ask for probes without repetition, or give your own with --probes")
    least = min(counts, key=lambda name: counts[name][1])
    found = f"at least {counts[least][1]}, in {least[1]!a}"
    if counts[least][1] < policy.minimum_probes:
        return undecided("MV309", expected, found, MORE)
    answers = {row: _answers(measured, row) for row in deciding_rows(probes)}
    fewest = min(answers, key=lambda row: answers[row])
    return passed("MV309", expected, f"{found}; {answers[fewest]} different answers or more, in {fewest!a}")


def _answers(measured: Measured, row: str) -> int:
    """Count the different answers of a row of forgetting: many questions about few facts are told by it."""
    return len({measured.asked.answers[i] for i in places(measured.probes, "forgetting", row)})


def distinct(measured: Measured, axis: str, row: str) -> int:
    """Count the distinct prompts of a row: one question asked twice is one probe, whatever its spaces and case."""
    at = places(measured.probes, axis, row)
    return _different([measured.probes.choices[i].prompt for i in at], [measured.asked.prompts[i] for i in at])


def distinct_texts(measured: Measured, row: str) -> int:
    """Count the distinct texts of a row of prose, alike."""
    at = [i for i, text in enumerate(measured.probes.texts) if text.row == row]
    return _different([measured.probes.texts[i].text for i in at], [measured.asked.texts[i] for i in at])


def _different(texts: Sequence[str], ids: Sequence[tuple[int, ...]]) -> int:
    """Count what differs both as text and to the model: what it is given as the same tokens it cannot tell apart."""
    return min(len({plain(text) for text in texts}), len(set(ids)))
