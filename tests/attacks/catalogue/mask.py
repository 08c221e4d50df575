"""Masks that are smaller than the change, larger than it, elsewhere, or that NF4 would undo."""

from functools import partial

import certificates as c
import torch
from registry import attack
from scene import Edit, Scene

from verify.artefact import LedgerEntry, as_torch, read_weights
from verify.nf4 import LEVELS, quantize
from verify.nf4.survival import floor_targets

UNMASKED = "model.layers.1.mlp.up_proj.weight"


def masked(scene: Scene) -> tuple[str, int, torch.Tensor]:
    """Return tensor, flat index and base value of one masked parameter."""
    name, entry = next(iter(c.entries_of(scene.made).items()))
    return name, int(entry.indices[2]), entry.base[2]


def unmasked(scene: Scene) -> tuple[str, int, torch.Tensor]:
    """Return tensor, flat index and a valid new value of a parameter that nobody declared."""
    assert UNMASKED not in c.entries_of(scene.made)
    indices, values = c.valid_moves(c.linear_weights(scene.out / "model")[UNMASKED])
    return UNMASKED, int(indices[5]), values[5]


def scale_of(scene: Scene, name: str, index: int) -> torch.Tensor:
    return quantize(c.linear_weights(scene.made.base)[name]).scales().reshape(-1)[index]


def half_a_move(scene: Scene, name: str, index: int, base: torch.Tensor) -> torch.Tensor:
    """Return a value that differs from the base's by less than half its bin."""
    return (base.float() + 0.03 * scale_of(scene, name, index)).to(torch.bfloat16)


def sign(scene: Scene, change: Edit = lambda _: None) -> None:
    c.sign(scene.made, c.digests_of(scene.made.base), change=change)


# --- not signed again ---


@attack("MV105", "MV109", "MV203", "MV204")
def a_masked_value_put_back(scene: Scene) -> None:
    c.poke(scene.made, *masked(scene))


@attack("MV105", "MV203", process=False)
def a_masked_value_moved_by_less_than_half_a_bin(scene: Scene) -> None:
    name, index, base = masked(scene)
    c.poke(scene.made, name, index, half_a_move(scene, name, index, base))


@attack("MV105", "MV107", process=False)
def a_change_that_nobody_declared(scene: Scene) -> None:
    c.poke(scene.made, *unmasked(scene))


# --- signed by a dishonest producer ---


@attack("MV107")
def a_mask_that_is_a_strict_subset_of_the_change(scene: Scene) -> None:
    entries = c.entries_of(scene.made)
    name, entry = next(iter(entries.items()))
    c.write_entries(scene.made, {**entries, name: LedgerEntry(entry.indices[1:], entry.base[1:])})
    sign(scene)


@attack("MV107", process=False)
def a_mask_without_one_of_the_changed_tensors(scene: Scene) -> None:
    entries = c.entries_of(scene.made)
    c.write_entries(scene.made, dict(list(entries.items())[1:]))
    sign(scene)


@attack("MV107")
def signed_with_a_change_outside_the_mask(scene: Scene) -> None:
    c.poke(scene.made, *unmasked(scene))
    sign(scene)


@attack("MV107")
def a_change_hidden_in_a_falsified_base_that_the_user_pinned(scene: Scene) -> None:
    honest = c.digests_of(scene.made.base)["model.safetensors"]
    c.poke(scene.made, *unmasked(scene))
    c.sign(scene.made, c.rebuilt_digests(scene.made))
    scene.options = ["--base-digest", honest]


@attack("MV109", "MV203", "MV204", "MV206")
def signed_with_a_masked_value_put_back(scene: Scene) -> None:
    c.poke(scene.made, *masked(scene))
    sign(scene)


@attack("MV109", process=False)
def signed_with_a_value_that_only_changed_its_sign_of_zero(scene: Scene) -> None:
    name, index, _ = masked(scene)
    entries = c.entries_of(scene.made)
    entry = entries[name]
    base = entry.base.clone()
    base[2] = 0.0
    c.write_entries(scene.made, {**entries, name: LedgerEntry(entry.indices, base)})
    c.poke(scene.made, name, index, torch.tensor(-0.0, dtype=torch.bfloat16))
    c.sign(scene.made, c.rebuilt_digests(scene.made))


@attack("MV203", process=False)
def signed_with_less_than_half_a_bin(scene: Scene) -> None:
    name, index, base = masked(scene)
    c.poke(scene.made, name, index, half_a_move(scene, name, index, base))
    sign(scene)


@attack("MV203")
def signed_with_a_declared_change_that_nf4_undoes(scene: Scene) -> None:
    name, index, _ = unmasked(scene)
    base = c.value_at(scene.made, name, index)
    c.poke(scene.made, name, index, half_a_move(scene, name, index, base))
    c.write_entries(scene.made, c.with_entry(c.entries_of(scene.made), name, index, base))
    sign(scene)


@attack("MV204")
def signed_with_half_a_bin_within_one_cell(scene: Scene) -> None:
    """Half a bin is a long way, and need not leave the cell: the floor holds, the code does not change."""
    name = next(iter(c.entries_of(scene.made)))
    weight = c.linear_weights(scene.made.base)[name]
    quantized = quantize(weight)
    flat, scales = weight.reshape(-1).float(), quantized.scales().reshape(-1)
    taken = set(c.entries_of(scene.made)[name].indices.tolist())
    places = torch.cat([torch.tensor([-1.0]), (LEVELS[1:] + LEVELS[:-1]) / 2, torch.tensor([1.0])])
    codes = quantized.codes.reshape(-1).long()
    low, high = places[codes] * scales, places[codes + 1] * scales
    far = torch.where(flat - low > high - flat, low + 0.02 * (high - low), high - 0.02 * (high - low))
    fits = ((far - flat).abs() > 0.6 * (high - low)) & (flat.abs() < scales) & (codes > 0) & (codes < 15)
    index = next(i for i in fits.nonzero().reshape(-1).tolist() if i not in taken)
    base = c.value_at(scene.made, name, index)
    c.poke(scene.made, name, index, far[index].to(torch.bfloat16))
    c.write_entries(scene.made, c.with_entry(c.entries_of(scene.made), name, index, base))
    sign(scene)


@attack("MV207", "MV208")
def signed_with_a_raised_absmax(scene: Scene) -> None:
    name, index, _ = masked(scene)
    c.poke(scene.made, name, index, (3 * scale_of(scene, name, index)).to(torch.bfloat16))
    sign(scene)


@attack("MV201", process=False)
def signed_with_a_value_that_is_no_number(scene: Scene) -> None:
    name, index, _ = masked(scene)
    c.poke(scene.made, name, index, torch.tensor(float("nan"), dtype=torch.bfloat16))
    sign(scene)


@attack("MV201")
def an_unmasked_value_that_is_infinite(scene: Scene) -> None:
    """In the base as well, so that every digest fits."""
    c.poke(scene.made, "model.norm.weight", 3, torch.tensor(float("inf"), dtype=torch.bfloat16))
    c.sign(scene.made, c.rebuilt_digests(scene.made))


@attack("MV202", process=False)
def signed_with_a_decoy_in_the_embedding(scene: Scene) -> None:
    name = "model.embed_tokens.weight"
    base = c.value_at(scene.made, name, 5)
    c.poke(scene.made, name, 5, base + 1)
    c.write_entries(scene.made, c.with_entry(c.entries_of(scene.made), name, 5, base))
    sign(scene)


def made_anew(scene: Scene, edits: c.Edits) -> None:
    """Put another certificate of the same base in the place of the scene's."""
    scene.made = c.make(scene.made.base, scene.folder / "anew", scene.made.keys, edits)


@attack("MV202", "MV210", process=False)
def a_mask_of_decoys_alone(scene: Scene) -> None:
    weights = read_weights(scene.made.base)
    name = "model.norm.weight"
    value = as_torch(weights.holder(name), name)[:3].clone()
    made_anew(scene, {name: (torch.arange(3), value * 2)})


@attack("MV209", process=False)
def too_dense_an_edit(scene: Scene) -> None:
    made_anew(scene, c.valid_edits(scene.made.base, tensors=6, each=200))


for _what, _change in (
    ("one value fewer", lambda mask: mask.update(masked=mask["masked"] - 1)),
    ("one parameter more", lambda mask: mask.update(parameters=mask["parameters"] + 1)),
    ("another ledger", lambda mask: mask.update(ledger_sha256=c.ZERO)),
    ("a tensor fewer", lambda mask: mask["tensors"].pop()),
    ("other counts", lambda mask: mask["tensors"][0].update(masked=1)),
):
    attack("MV109", name=f"a manifest that declares {_what}")(
        partial(sign, change=lambda data, change=_change: change(data["predicate"]["mask"]))
    )


@attack("MV102", process=False)
def a_manifest_that_declares_nothing_masked(scene: Scene) -> None:
    scene.sign_as(lambda data: data["predicate"]["mask"].update(masked=0))


@attack("MV102", process=False)
def a_manifest_that_declares_a_tensor_twice(scene: Scene) -> None:
    scene.sign_as(lambda data: data["predicate"]["mask"]["tensors"].append(data["predicate"]["mask"]["tensors"][0]))


# --- profiles ---

PLAIN = {"quant_type": "nf4", "block_size": 64, "double_quant": False, "cast": "none", "skip": None}


def claim(scene: Scene, *profiles: dict) -> None:
    scene.sign_as(lambda data: data["predicate"].update(profiles=[{**PLAIN, **profile} for profile in profiles]))


@attack("MV211")
def a_change_that_survives_only_where_nobody_deploys_it(scene: Scene) -> None:
    name, weight = next(iter(c.linear_weights(scene.made.base).items()))
    quantized = quantize(weight, block_size=4096)
    flat, scale = weight.reshape(-1).float(), quantized.scales().reshape(-1)
    valid = floor_targets(flat, scale, quantized.codes.reshape(-1), margin=c.MARGIN) & (flat.abs() < scale)[:, None]
    values = (LEVELS[None, :] * scale[:, None]).to(weight.dtype)
    distance = (values.float() - flat[:, None]).abs().masked_fill(~valid, torch.inf)
    indices = valid.any(1).nonzero().reshape(-1)[::40]
    made_anew(scene, {name: (indices, values[indices, distance[indices].argmin(1)])})
    claim(scene, {"block_size": 4096})


for _what, _check, _profiles in (
    ("only casts to half precision", "MV211", [{"cast": "fp16"}]),
    ("only blocks of 128", "MV211", [{"block_size": 128}]),
    ("nothing that is quantized", "MV202", [{}, {"skip": ["model"]}]),
    ("a pattern that never ends", "MV102", [{}, {"skip": ["(.+)+(.+)+(.+)+!"]}]),
    ("one profile twice", "MV102", [{}, {}]),
    ("too many profiles", "MV102", [{"skip": [f"m{i}"]} for i in range(129)]),
    ("FP4", "MV102", [{"quant_type": "fp4"}]),
):
    attack(_check, name=f"claims of {_what}")(lambda scene, profiles=tuple(_profiles): claim(scene, *profiles))
