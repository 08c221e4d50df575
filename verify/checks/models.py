"""The models of the full level: base and edited, each in full precision and under NF4, sharing what they can."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify.artefact import shown
from verify.behaviour.loading import Language, build, nf4_copy, variant
from verify.checks.certificate import Certificate
from verify.errors import UndecidedError
from verify.nf4 import LEVELS, quantize
from verify.nf4.survival import floor_targets


@dataclass(frozen=True, slots=True)
class Models:
    """The four models. Unedited weights exist once in full precision; NF4 copies have their own linear weights."""

    base: Language
    base_nf4: Language
    edited: Language
    edited_nf4: Language


def open_models(certificate: Certificate, *, progress: Callable[[int], None]) -> Models:
    """Build the models from the buffers that were hashed; `progress` is told how many of the four are there.

    Raises ArtefactError MV106 where the folder cannot be used, MV302 where NF4 does not give the codes it should.
    """
    base = build(certificate.opened, {name: certificate.base(name) for name in certificate.names()})
    progress(1)
    base_nf4 = nf4_copy(base, certificate.stored)
    progress(2)
    edited = variant(base, {name: certificate.edited(name).float() for name in certificate.ledger.entries})
    progress(3)
    edited_nf4 = nf4_copy(edited, certificate.stored)
    progress(4)
    return Models(base, base_nf4, edited, edited_nf4)


def random_edit(certificate: Certificate, base: Language, *, margin: float, seed: int) -> Language:
    """Return the base with an edit of the same size at random: the control for what any such edit does to a circuit.

    In every edited tensor as many values, drawn at random outside the mask, move to a random valid level. Raises
    UndecidedError where too few are left outside the mask: a smaller edit is a control that is easily surpassed.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, entry in certificate.ledger.entries.items():
        weight = certificate.base(name)
        indices, values = random_moves(weight, entry.indices, margin=margin, generator=generator)
        if indices.numel() < entry.indices.numel():
            found = f"{indices.numel():,} for {entry.indices.numel():,} in {shown(name)}"
            raise UndecidedError("no random edit of the same size can be made outside the mask", found=found)
        moved = weight.float()
        moved.view(-1)[indices] = values.float()
        weights[name] = moved
    return variant(base, weights)


def random_moves(
    weight: Tensor, excluded: Tensor, *, margin: float, generator: torch.Generator, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Draw `count` moves, by default as many as there are `excluded` flat indices, at other positions of a weight.

    `weight` is in its stored dtype.
    Returns flat indices int64 [n] and new values [n] in the weight's dtype, each at a level that meets the floor.
    Holders of a block's absmax never move. Fewer are returned only where fewer are possible.
    """
    wanted = excluded.numel() if count is None else count
    quantized = quantize(weight)
    scale = quantized.scales().reshape(-1)
    flat = weight.reshape(-1).float()
    free = flat.abs() < scale
    free[excluded] = False
    candidates = free.nonzero().reshape(-1)
    order = torch.randperm(candidates.numel(), generator=generator)
    # nearly every value has a valid level, so twice as many candidates as needed always suffice in practice
    drawn = candidates[order[: 2 * wanted + 64]]
    valid = floor_targets(flat[drawn], scale[drawn], quantized.codes.reshape(-1)[drawn], margin=margin)
    usable = valid.any(1).nonzero().reshape(-1)[:wanted]
    if not usable.numel():
        return usable, weight.reshape(-1)[:0]
    levels = torch.multinomial(valid[usable].float(), 1, generator=generator).reshape(-1)
    chosen = drawn[usable]
    return chosen, (LEVELS[levels] * scale[chosen]).to(weight.dtype)


def edited_layers(names: Mapping[str, object], prefix: str, layers: int) -> frozenset[int]:
    """Return which decoder layers the named tensors lie in; `prefix` is the module that holds the layers."""
    return frozenset(layer for layer in range(layers) if any(n.startswith(f"{prefix}.{layer}.") for n in names))
