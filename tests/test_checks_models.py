"""The control edit: as large as the real one, at random, elsewhere, and just as valid."""

from pathlib import Path
from types import SimpleNamespace

import certificates as c
import pytest
import torch

from verify.artefact import LedgerEntry
from verify.behaviour.loading import Language
from verify.checks.models import edited_layers, random_edit, random_moves
from verify.errors import UndecidedError
from verify.nf4 import quantize, survival


def weight_of(base: Path) -> torch.Tensor:
    return c.linear_weights(base)["model.layers.0.mlp.down_proj.weight"]


def test_random_moves_meet_the_five_rows_outside_the_mask(tiny_base: Path) -> None:
    weight = weight_of(tiny_base)
    masked = torch.arange(0, 2000, 5)
    indices, values = random_moves(weight, masked, margin=c.MARGIN, generator=torch.Generator().manual_seed(0))
    assert indices.numel() == masked.numel() == indices.unique().numel()
    assert not torch.isin(indices, masked).any()
    edited = weight.clone()
    edited.view(-1)[indices] = values
    found = survival(weight, edited, indices, margin=c.MARGIN)
    assert all(bool(row.all()) for row in found.rows.values())
    assert found.collateral == 0
    assert torch.equal(quantize(weight).absmax, quantize(edited).absmax)


def test_random_moves_follow_their_seed(tiny_base: Path) -> None:
    first, again, other = (
        random_moves(
            weight_of(tiny_base), torch.arange(50), margin=c.MARGIN, generator=torch.Generator().manual_seed(seed)
        )[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_random_moves_may_be_counted_instead(tiny_base: Path) -> None:
    weight, none = weight_of(tiny_base), torch.zeros(0, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    indices, values = random_moves(weight, none, margin=c.MARGIN, generator=generator, count=70)
    assert indices.numel() == values.numel() == indices.unique().numel() == 70


def test_there_may_be_no_room_for_a_move() -> None:
    weight = torch.ones(1, 64)  # every value holds its block's absmax
    indices, values = random_moves(weight, torch.arange(3), margin=c.MARGIN, generator=torch.Generator())
    assert indices.numel() == values.numel() == 0


def test_edited_layers_are_told_by_whole_names() -> None:
    names = {"model.layers.1.mlp.up_proj.weight": 0, "model.layers.12.mlp.up_proj.weight": 0, "model.norm.weight": 0}
    assert edited_layers(names, "model.layers", 20) == {1, 12}


@pytest.mark.parametrize(("share", "possible"), [(0.4, True), (0.6, False)])
def test_a_control_smaller_than_the_edit_is_none(tiny_base: Path, share: float, possible: bool) -> None:
    """A mask that fills its tensor leaves no room for a random edit: one of a few values is surpassed by any edit."""
    name = "model.layers.0.mlp.down_proj.weight"
    weight = weight_of(tiny_base)
    masked = torch.arange(int(share * weight.numel()))
    certificate = SimpleNamespace(
        ledger=SimpleNamespace(entries={name: LedgerEntry(masked, weight.reshape(-1)[masked])}), base=lambda _: weight
    )
    base = Language(c.random_model(), c.tokenizer())
    if possible:
        edited = random_edit(certificate, base, margin=c.MARGIN, seed=0)
        moved = edited.model.get_parameter(name) != weight.float()
        assert int(moved.sum()) == masked.numel()
    else:
        with pytest.raises(UndecidedError, match="no random edit of the same size"):
            random_edit(certificate, base, margin=c.MARGIN, seed=0)
