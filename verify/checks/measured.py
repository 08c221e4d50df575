"""What was asked and answered: the answers of four models to the same probes, row by row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from verify.behaviour.axes import Answers, Asked, Chosen
from verify.behaviour.probes import Choice, Probes

DECIDING = "held-out wordings"
"""Forgetting rows whose name ends so are decided upon; the others are reported beside them."""


@dataclass(frozen=True, slots=True)
class Bare:
    """The answers to the deciding questions without the tokenizer's special tokens, where these make a difference.

    Chat templates and servers may leave them out. Indices are those of `deciding`.
    """

    base: Chosen
    base_nf4: Chosen
    edited: Chosen
    edited_nf4: Chosen


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers of the four models to the same probes, and what these are as tokens."""

    probes: Probes
    asked: Asked
    base: Answers
    base_nf4: Answers
    edited: Answers
    edited_nf4: Answers
    bare: Bare | None = None


def deciding(probes: Probes) -> tuple[Choice, ...]:
    """Return the choices that are decided upon, in order."""
    rows = deciding_rows(probes)
    return tuple(choice for choice in probes.choices if choice.axis == "forgetting" and choice.row in rows)


def rows_of(probes: Probes, axis: str) -> tuple[str, ...]:
    """Return the names of an axis' rows of choices, in order of appearance."""
    return tuple(dict.fromkeys(choice.row for choice in probes.choices if choice.axis == axis))


def prose_rows(probes: Probes) -> tuple[str, ...]:
    """Return the names of the rows of prose, in order of appearance."""
    return tuple(dict.fromkeys(text.row for text in probes.texts))


def deciding_rows(probes: Probes) -> tuple[str, ...]:
    """Return the forgetting rows that are decided upon."""
    return tuple(row for row in rows_of(probes, "forgetting") if row.endswith(DECIDING))


def places(probes: Probes, axis: str, row: str) -> list[int]:
    """Return where the choices of a row stand among all."""
    return [i for i, choice in enumerate(probes.choices) if (choice.axis, choice.row) == (axis, row)]


def chance(measured: Measured, axis: str, row: str) -> float:
    """Return the accuracy of guessing on a row: the mean of one over the first tokens that each pool leaves."""
    at = places(measured.probes, axis, row)
    return sum(measured.asked.chance[i] for i in at) / len(at)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row is, by model: of questions right or wrong, bool [probes of a row], of prose nats (`prose_columns`)."""

    base: Tensor
    base_nf4: Tensor
    edited: Tensor
    edited_nf4: Tensor


def columns(measured: Measured, axis: str, row: str) -> Columns:
    """Return a row's answers; a tie counts against the certificate.

    In a row of forgetting it is right for the edited model and wrong for the base, in one of retention the other way.
    """
    at = torch.tensor(places(measured.probes, axis, row), dtype=torch.int64)
    forgetting = axis == "forgetting"

    def right(answers: Answers, *, ties: bool) -> Tensor:
        return (answers.correct | answers.tied if ties else answers.correct)[at]

    return Columns(
        right(measured.base, ties=not forgetting),
        right(measured.base_nf4, ties=not forgetting),
        right(measured.edited, ties=forgetting),
        right(measured.edited_nf4, ties=forgetting),
    )


def prose_columns(measured: Measured, row: str) -> tuple[Tensor, Columns]:
    """Return int64 [texts of a row], the tokens predicted, and their summed nats by model, float64 [texts of a row]."""
    at = torch.tensor([text.row == row for text in measured.probes.texts])
    four = (measured.base, measured.base_nf4, measured.edited, measured.edited_nf4)
    return measured.base.tokens[at], Columns(*(answers.nll[at] for answers in four))
