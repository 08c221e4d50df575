"""All theorems, each with its prover: `prove_all` is what `mansu-verify --prove` runs."""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from verify.contract.theorems import STATEMENTS, Statement, Theorem
from verify.nf4.proofs import drift, float32, layout, moves
from verify.nf4.proofs.logic import Codebook, Outcome, UndecidedError

Prover = Callable[[Codebook], Outcome]

PROVERS: Mapping[str, Prover] = MappingProxyType(
    {
        "T1": moves.half_bin_any_direction,
        "T2": moves.half_bin_to_nearest,
        "T3": moves.half_bin_in_end_cells,
        "T4": moves.whole_bin,
        "T5": moves.snapping,
        "T6": drift.scale_drift,
        "T7": layout.double_quantization,
        "T8": layout.fused_rows,
        "T9": drift.cast,
        "T10": float32.computed_value,
        "T11": drift.backends,
        "T12": moves.construction,
    }
)


def prove(statement: Statement, book: Codebook) -> Theorem:
    """Prove or refute one theorem; a solver that gives up leaves it undecided."""
    started = time.perf_counter()
    try:
        outcome = PROVERS[statement.id](book)
    except UndecidedError as reason:
        outcome = Outcome("undecided", "z3", str(reason))
    seconds = time.perf_counter() - started
    return Theorem(statement, outcome.status, outcome.counterexample, outcome.constants, outcome.method, seconds)


def prove_all(book: Codebook | None = None, *, ids: Iterable[str] | None = None) -> tuple[Theorem, ...]:
    """Prove or refute every theorem (or those of the given ids) about a codebook, by default the quantizer's."""
    chosen = set(PROVERS if ids is None else ids)
    codebook = Codebook.current() if book is None else book
    return tuple(prove(statement, codebook) for statement in STATEMENTS if statement.id in chosen)
