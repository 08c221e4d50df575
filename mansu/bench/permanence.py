"""The permanence matrix: what a base and an edited model answer, in full precision and under every quantizer."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mansu.bench.extras import NO_QUANTIZER
from mansu.bench.quantizers import Proof, find, quantized
from mansu.data.probes import held_out_probes
from mansu.request import Request
from verify.behaviour.axes import choose
from verify.behaviour.loading import Language
from verify.behaviour.probes import AnswerTokens, Choice, Probes
from verify.behaviour.statistics import paired_difference, proportion
from verify.contract.schema import Estimate, Schema
from verify.errors import UsageError

PERMANENCE_SCHEMA = "urn:mansu:permanence/v1"
_REFUSALS = {"ME362", "ME363"}
_WORDINGS = ", held-out wordings"


class FormatProof(Schema):
    """What one format did to the base: `changed` of `values` weights, and at most `distinct` values in a block.

    `levels` is how many values of a block the format can tell apart. Values are counted in up to 256 blocks a tensor.
    """

    format: str
    tensors: int
    values: int
    changed: int
    distinct: int
    levels: int


class Answered(Schema):
    """Accuracy of both models on one set of probes; `gap` and `gap_base` are this precision minus full precision."""

    base: Estimate
    edited: Estimate
    gap_base: Estimate
    gap: Estimate


class PermanenceRow(Schema):
    """One quantizer. What was not measured is None, and `note` says why.

    `control`: the base under this quantizer still answers the forget probes better than chance, interval and all;
    where it does not, the row says nothing about the edit. `quantized_edits` counts edited parameters that the
    quantizer takes, `differing` those whose quantized values differ between base and edited model. `realised` is the
    part of the edit that is left of it: ⟨Δq, Δ⟩ / ⟨Δ, Δ⟩ over these parameters, None where there are none.
    """

    quantizer: str
    title: str
    state: Literal["measured", "not installed", "refused"]
    note: str = ""
    proofs: tuple[FormatProof, ...] = ()
    forget: Answered | None = None
    retain: Answered | None = None
    control: bool | None = None
    quantized_edits: int | None = None
    differing: int | None = None
    realised: float | None = None


class PermanenceMatrix(Schema):
    """All rows, the first in full precision. `edited_parameters` counts the values in which the two models differ."""

    schema_: Literal["urn:mansu:permanence/v1"] = "urn:mansu:permanence/v1"
    base: str
    edited: str
    seed: int
    forget_row: str
    retain_row: str
    forget_chance: float
    retain_chance: float
    parameters: int
    edited_parameters: int
    rows: tuple[PermanenceRow, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Held-out probes of both kinds, and the pools they are answered from."""

    forget: tuple[Choice, ...]
    retain: tuple[Choice, ...]
    pools: Mapping[str, tuple[str, ...]]
    forget_row: str
    retain_row: str


def held_out(request: Request, tokenizer: object, *, limit: int, seed: int) -> Asked:
    """Draw at most `limit` held-out probes of each kind, as the certificate of this seed splits them.

    Forgetting is asked in held-out wordings of the facts that were trained on; where there are none, on held-out facts.
    Raises `UsageError` ME364 where nothing is held out of one of the sets.
    """
    probes: Probes = held_out_probes(request, tokenizer, forget_pairs=0, retain_pairs=0, seed=seed)
    forget = [choice for choice in probes.choices if choice.axis == "forgetting"]
    wordings = [choice for choice in forget if choice.row.endswith(_WORDINGS)]
    retain = [choice for choice in probes.choices if choice.axis == "retention"]
    if not forget or not retain:
        raise UsageError(
            "nothing is held out to ask",
            expected="held-out wordings or facts in the forget set, and held-out facts in the retain set",
            found=f"{len(forget)} forget and {len(retain)} retain probes",
            remedy="write more wordings of each fact, and more facts to keep",
            error_id="ME364",
        )
    rng = random.Random(seed)  # noqa: S311  (a sample, not a secret)
    return Asked(
        forget=_sample(wordings or forget, limit, rng),
        retain=_sample(retain, limit, rng),
        pools=probes.pools,
        forget_row="held-out wordings" if wordings else "held-out facts",
        retain_row="held-out facts to keep",
    )


def _sample(choices: Sequence[Choice], limit: int, rng: random.Random) -> tuple[Choice, ...]:
    kept = sorted(rng.sample(range(len(choices)), min(limit, len(choices))))
    return tuple(choices[at] for at in kept)


@dataclass(frozen=True, slots=True)
class Pair:
    """Base and edited model, float32, of one architecture; `stored` is the dtype of both files."""

    base: Language
    edited: Language
    stored: torch.dtype

    def edits(self) -> dict[str, Tensor]:
        """Return the flat indices of the values that differ, int64 `[n]` by parameter; those without are left out.

        Raises `UsageError` ME365 where the two do not have the same parameters, or do not differ.
        """
        mine, other = dict(self.base.model.named_parameters()), dict(self.edited.model.named_parameters())
        shapes = [{name: tuple(value.shape) for name, value in side.items()} for side in (mine, other)]
        if shapes[0] != shapes[1]:
            raise _no_pair("their parameters differ in names or shapes")
        found = {name: (mine[name] != other[name]).reshape(-1).nonzero()[:, 0] for name in mine}
        found = {name: at for name, at in found.items() if len(at)}
        if not found:
            raise _no_pair("no value differs")
        return found


def _no_pair(found: str) -> UsageError:
    return UsageError(
        "these are not a model and its edit",
        expected="two folders of one architecture and dtype, with different weights",
        found=found,
        remedy="give the base model first, then the model that was edited from it",
        error_id="ME365",
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One model under one quantizer: answers bool `[probes]`, and its weights at the edits, in the edits' order."""

    forget: Tensor
    retain: Tensor
    values: Tensor
    proofs: tuple[Proof, ...] = ()


def permanence_matrix(
    pair: Pair,
    asked: Asked,
    quantizers: Sequence[str],
    *,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[PermanenceRow]:
    """Yield a row in full precision, then one for each quantizer, as soon as it is measured.

    `progress` is called after each model. A quantizer that is not installed, or that cannot take this model, gives a
    row that says so. Raises `UsageError` ME361 for an unknown quantizer, before any is measured, and ME365.
    """
    edits = pair.edits()
    chosen = [find(name) for name in quantizers]
    full = _full(pair.base, asked, edits), _full(pair.edited, asked, edits)
    progress()
    yield _row("none", "full precision", full, full, asked, pair)
    moves = full[1].values - full[0].values
    for quantizer in chosen:
        try:
            sides = tuple(
                _side(language, quantizer.name, pair.stored, asked, edits) for language in (pair.base, pair.edited)
            )
        except UsageError as error:
            if error.id != NO_QUANTIZER and error.id not in _REFUSALS:
                raise
            state: Literal["not installed", "refused"] = "not installed" if error.id == NO_QUANTIZER else "refused"
            note = f"{error.id}: {error.message}: {error.found}"
            yield PermanenceRow(quantizer=quantizer.name, title=quantizer.title, state=state, note=note)
            continue
        progress()
        yield _row(quantizer.name, quantizer.title, (sides[0], sides[1]), full, asked, pair, moves=moves)


def _full(language: Language, asked: Asked, edits: Mapping[str, Tensor]) -> _Side:
    values = [language.model.get_parameter(name).reshape(-1)[at] for name, at in edits.items()]
    return _Side(*_answers(language, asked), torch.cat(values))


def _side(language: Language, name: str, stored: torch.dtype, asked: Asked, edits: Mapping[str, Tensor]) -> _Side:
    deployed = quantized(language, name, stored)
    values = [
        # NaN marks an edited value that the quantizer leaves as it is stored
        deployed.weights[weight].reshape(-1)[at] if weight in deployed.weights else torch.full((len(at),), torch.nan)
        for weight, at in edits.items()
    ]
    return _Side(*_answers(deployed.language, asked), torch.cat(values), deployed.proofs)


def _answers(language: Language, asked: Asked) -> tuple[Tensor, Tensor]:
    correct = choose(language, (*asked.forget, *asked.retain), asked.pools).correct
    return correct[: len(asked.forget)], correct[len(asked.forget) :]


def _row(
    name: str,
    title: str,
    sides: tuple[_Side, _Side],
    full: tuple[_Side, _Side],
    asked: Asked,
    pair: Pair,
    *,
    moves: Tensor | None = None,
) -> PermanenceRow:
    forget = _answered(*((side.forget, whole.forget) for side, whole in zip(sides, full, strict=True)))
    retain = _answered(*((side.retain, whole.retain) for side, whole in zip(sides, full, strict=True)))
    row = PermanenceRow(
        quantizer=name,
        title=title,
        state="measured",
        proofs=tuple(_proof(proof) for proof in sides[0].proofs),
        forget=forget,
        retain=retain,
        control=forget.base.low > chance(asked.forget, asked, pair.base.tokenizer),
    )
    if moves is None:
        return row
    taken = ~sides[0].values.isnan()
    change, wanted = (sides[1].values - sides[0].values)[taken].double(), moves[taken].double()
    return row.model_copy(
        update={
            "quantized_edits": int(taken.sum()),
            "differing": int((change != 0).sum()),
            "realised": float((change * wanted).sum() / (wanted * wanted).sum()) if len(wanted) else None,
        }
    )


def _answered(base: tuple[Tensor, Tensor], edited: tuple[Tensor, Tensor]) -> Answered:
    return Answered(
        base=proportion(base[0]),
        edited=proportion(edited[0]),
        gap_base=paired_difference(*base),
        gap=paired_difference(*edited),
    )


def _proof(proof: Proof) -> FormatProof:
    return FormatProof(
        format=proof.format,
        tensors=proof.tensors,
        values=proof.values,
        changed=proof.changed,
        distinct=proof.distinct,
        levels=proof.levels,
    )


def chance(choices: Sequence[Choice], asked: Asked, tokenizer: object) -> float:
    """Return the accuracy of guessing among the first tokens of each probe's pool."""
    first = AnswerTokens(tokenizer)
    sizes = {name: len(first.pool(pool)) for name, pool in asked.pools.items()}
    return sum(1 / sizes[choice.pool] for choice in choices) / len(choices)
