"""A model under a quantizer, with the proof that the quantizer was really applied (docs/permanence.md)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mansu.bench.quantizers.registry import FORMATS, Format, Planned, find
from verify.behaviour.loading import Language, variant
from verify.errors import UsageError

_LOOKED_AT = 256
"""Blocks of each weight whose values are counted, spread evenly."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What one format did: to how many weights of how many values, how many of them it changed.

    `distinct` is the largest number of different values found in one block, `levels` how many the format has.
    """

    format: str
    tensors: int
    values: int
    changed: int
    distinct: int
    levels: int


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model as it is deployed: the language, the weights it computes with (by name, float32, stored form), proofs."""

    language: Language
    weights: Mapping[str, Tensor]
    proofs: tuple[Proof, ...]


def quantized(language: Language, name: str, stored: torch.dtype) -> Deployed:
    """Return a copy of a model under a quantizer; `stored` is the dtype of the weights in the file.

    The copy shares what is not quantized. Raises `UsageError` ME360 where a package is missing, ME361 for an unknown
    name, ME362 where nothing would be quantized, or the result is not of the format, ME363 where llama.cpp refuses.
    """
    quantizer = find(name)
    plan = quantizer.plan(language.model)
    if not plan:
        raise _not_applied("no weight of this model fits the format", quantizer.title)
    weights: dict[str, Tensor] = {}
    parts: list[tuple[str, Proof]] = []
    for planned in plan:
        before = planned.module.turned(language.model.get_parameter(planned.module.weight).to(stored))
        after = FORMATS[planned.format].decode(before)
        parts.append((planned.module.weight, _proof(planned, before, after)))
        weights[planned.module.weight] = planned.module.turned(after)
    proofs = _summed([proof for _, proof in parts])
    _require_applied(parts, quantizer.title)
    ties = {
        target: weights[source]
        for target, source in (language.model.all_tied_weights_keys or {}).items()
        if source in weights
    }
    result = variant(language, {**weights, **ties})
    if quantizer.layer is not None:
        for planned in plan:
            module = language.model.get_submodule(planned.module.name)
            weight = planned.module.turned(language.model.get_parameter(planned.module.weight).to(stored))
            _replace(result.model, planned.module.name, quantizer.layer(weight, module.bias))
    return Deployed(result, weights, proofs)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _proof(planned: Planned, before: Tensor, after: Tensor) -> Proof:
    kind = FORMATS[planned.format]
    changed = int((before.float() != after).sum())
    return Proof(planned.format, 1, after.numel(), changed, distinct_values(after, kind), kind.levels)


def distinct_values(weight: Tensor, kind: Format) -> int:
    """Return the largest number of different values in one of up to 256 blocks of a weight `[out, in]`."""
    block = kind.block or weight.shape[1]
    whole = weight.reshape(-1)[: weight.numel() // block * block].reshape(-1, block)
    if not len(whole):
        return len(set(weight.reshape(-1).tolist()))
    some = whole[torch.linspace(0, len(whole) - 1, min(len(whole), _LOOKED_AT)).long()].sort(dim=1).values
    return int((some.diff(dim=1) != 0).sum(1).max()) + 1


def _summed(proofs: list[Proof]) -> tuple[Proof, ...]:
    """Add the proofs of one format up."""
    by_format: dict[str, list[Proof]] = {}
    for proof in proofs:
        by_format.setdefault(proof.format, []).append(proof)
    return tuple(
        Proof(
            name,
            len(group),
            sum(proof.values for proof in group),
            sum(proof.changed for proof in group),
            max(proof.distinct for proof in group),
            group[0].levels,
        )
        for name, group in by_format.items()
    )


def _require_applied(parts: list[tuple[str, Proof]], title: str) -> None:
    for weight, proof in parts:
        if proof.distinct > proof.levels:
            raise _not_applied(f"{weight} has {proof.distinct} values in a block of {proof.levels} levels", title)
    if not any(proof.changed for _, proof in parts):
        raise _not_applied("no weight changed: the model's weights are quantized in this format already", title)


def _not_applied(found: str, title: str) -> UsageError:
    return UsageError(
        "the quantizer cannot be shown to have been applied",
        expected=f"weights that {title} changes, with no more values in a block than it has levels",
        found=found,
        remedy="give the model as it was trained, before any quantizer; leave this quantizer out if none fits",
        error_id="ME362",
    )
