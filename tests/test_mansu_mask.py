"""The mask: what each choice takes, and what none may."""

import base64
import json
from pathlib import Path

import certificates as c
import pytest
import tiny_unlearning as t
import torch
from test_mansu_unlearn import QUICK, known_facts, run
from torch import Tensor, nn

from mansu.config import MaskChoice
from mansu.floor.lattice import absmax_holders
from mansu.mask.selection import Mask, everywhere, layer_regions, select
from mansu.retain.fisher import Fisher
from mansu.retain.null_space import NullSpace
from verify.behaviour.modules import nf4_linears
from verify.check import check
from verify.circuits import describe
from verify.nf4 import quantize

NAMES = ("one", "two")


def _layers() -> dict[str, nn.Linear]:
    generator = torch.Generator().manual_seed(1)
    layers = {name: nn.Linear(64, 32, bias=False) for name in NAMES}
    for layer in layers.values():
        layer.weight.data = torch.randn(32, 64, generator=generator)
    return layers


def _like(layers: dict[str, nn.Linear], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(layer.weight.shape, generator=generator) for name, layer in layers.items()}


def _select(
    choice: MaskChoice,
    *,
    seed: int = 0,
    regions: dict[str, Tensor] | None = None,
    size: int = 100,
    holders: bool = False,
    bare: bool = False,
) -> tuple[Mask, Tensor]:
    """Return a mask of `size` of 4,096 parameters, and |forget gradient| flat with the absmax holders at zero.

    `bare` leaves out the Fisher and the null space.
    """
    layers = _layers()
    gradient = _like(layers, 2)
    fisher = {name: value.square() for name, value in _like(layers, 3).items()}
    basis = torch.linalg.qr(_like(layers, 4)["one"].T).Q[:, :8]
    mask = select(
        layers,
        torch.float32,
        everywhere(layers) if regions is None else regions,
        gradient,
        Fisher.flat(layers) if bare else Fisher(fisher, 1.0),
        NullSpace.whole(layers) if bare else NullSpace(dict.fromkeys(NAMES, basis)),
        choice=choice,
        size=size,
        parameters=4096,
        seed=seed,
        holders=holders,
    )
    held = {name: absmax_holders(layer.weight.detach()) for name, layer in layers.items()}
    slope = torch.cat([gradient[name].abs().masked_fill(held[name], 0).reshape(-1) for name in NAMES])
    return mask, slope


def _flat(mask: Mask) -> list[int]:
    return [int(place) + 2048 * NAMES.index(name) for name, places in mask.indices.items() for place in places]


@pytest.mark.parametrize("choice", ["circuit", "layers", "contrast", "gradient", "random"])
def test_every_choice_takes_as_many_and_no_absmax_holder(choice: MaskChoice) -> None:
    mask, size = _select(choice)
    assert mask.size == 100
    assert all(size[place] > 0 for place in _flat(mask))


def test_gradient_takes_the_largest_gradients_and_contrast_others() -> None:
    mask, size = _select("gradient")
    assert set(_flat(mask)) == set(size.topk(100).indices.tolist())
    assert 0 < len(set(_flat(_select("contrast")[0])) & set(_flat(mask))) < 100


def test_without_fisher_and_null_space_the_gradient_in_bins_decides() -> None:
    mask, slope = _select("contrast", bare=True)
    scale = torch.cat([quantize(layer.weight.detach()).scales().reshape(-1) for layer in _layers().values()])
    assert set(_flat(mask)) == set((slope * scale).topk(100).indices.tolist())
    assert set(_flat(mask)) != set(_flat(_select("contrast")[0]))


def test_absmax_holders_are_taken_only_when_asked_for() -> None:
    held = sum(int(absmax_holders(layer.weight.detach()).sum()) for layer in _layers().values())
    assert held >= 64
    assert _select("contrast", size=4096)[0].size == 4096 - held
    assert _select("contrast", size=4096, holders=True)[0].size == 4096


def test_whole_layers_are_all_that_their_nodes_own() -> None:
    model = c.random_model(layers=4)
    regions = layer_regions(describe(model), nf4_linears(model), from_layer=1, below_layer=3)
    assert regions.keys() == {name for name in nf4_linears(model) if ".layers.1." in name or ".layers.2." in name}
    assert all(bool(region.all()) for region in regions.values())


def test_random_follows_its_seed_and_nothing_else() -> None:
    drawn = [_flat(_select("random", seed=seed)[0]) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("choice", ["circuit", "layers", "contrast", "gradient", "random"])
def test_no_choice_leaves_its_regions(choice: MaskChoice) -> None:
    regions = {name: torch.zeros(32, 64, dtype=torch.bool) for name in NAMES}
    regions["two"][:16] = True
    mask, _ = _select(choice, regions=regions)
    assert list(mask.indices) == ["two"]
    assert int(mask.indices["two"].max()) < 16 * 64


@pytest.mark.parametrize("choice", ["contrast", "gradient", "random"])
def test_a_run_without_the_circuit_says_so_in_its_manifest(
    tmp_path: Path, tiny_keys: c.Keys, choice: MaskChoice
) -> None:
    base = c.save_base(t.trained_model(layers=4), tmp_path / "base")
    run(base, tmp_path, tiny_keys, forget=known_facts(), config=QUICK.model_copy(update={"mask": choice}))
    out = tmp_path / "out"
    assert check(out / "model", out / "m.json", keys=[tiny_keys.public], level="static").verdict == "PASS"
    payload = json.loads(base64.b64decode(json.loads((out / "m.json").read_text())["dsseEnvelope"]["payload"]))
    method = payload["predicate"]["method"]
    assert method["settings"]["mask"] == choice
    assert "circuit" not in method["name"]
