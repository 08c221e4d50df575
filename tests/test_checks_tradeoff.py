"""The certificate's tradeoff: its numbers against the weights in memory, and the profile that it is for."""

import math
from pathlib import Path

import certificates as c
import numpy as np
import torch

from verify.artefact import as_torch, read_weights
from verify.check import check
from verify.checks.tradeoff import curve_profile
from verify.contract.manifest import Profile
from verify.contract.policy import Policy
from verify.nf4.tradeoff import floor_costs, largest_count


def test_it_is_that_of_the_base_and_this_edit_lies_below(tiny_certificate: c.Certificate) -> None:
    made = tiny_certificate
    result = check(made.model, made.manifest, keys=[made.keys.public], level="static")
    found = result.tradeoff
    assert found is not None
    assert found.profile == result.permanence[0].profile
    base = c.linear_weights(made.base)
    assert found.quantized_parameters == sum(weight.numel() for weight in base.values())
    squares = [
        (values.double() - base[name].reshape(-1)[places].double()).square().sum()
        for name, (places, values) in made.edits.items()
    ]
    assert math.isclose(found.norm, math.sqrt(float(torch.stack(squares).sum())), rel_tol=1e-12)
    assert found.surviving == sum(places.numel() for places, _ in made.edits.values()) <= found.bound
    costs = np.sort(np.concatenate([floor_costs(weight) for weight in base.values()]))
    exact = largest_count(costs, np.square([*found.budgets, found.norm])).tolist()
    assert all(one <= two for one, two in zip(exact, [*found.at_most, found.bound], strict=True))
    assert list(found.budgets) == sorted(found.budgets)
    assert found.at_most[0] == 0
    assert found.at_most[-1] == found.quantized_parameters
    assert found.budgets[0] < found.norm < found.budgets[-1]
    assert found.even_move == found.norm / math.sqrt(found.quantized_parameters)
    assert found.even_at_most < found.surviving


def profile(block_size: int = 64, cast: str = "none", skip: tuple[str, ...] | None = None) -> Profile:
    return Profile.model_validate({"block_size": block_size, "double_quant": False, "cast": cast, "skip": skip})


def test_the_profile_is_one_of_the_weights_as_stored() -> None:
    policy = Policy()
    narrow, cast, skipping = profile(128), profile(cast="fp16"), profile(skip=("lm_head",))
    assert curve_profile([cast, narrow, profile()], "BF16", policy) == profile()
    assert curve_profile([cast, narrow], "BF16", policy) == narrow
    assert curve_profile([cast], "F16", policy) == cast
    assert curve_profile([cast, skipping], "BF16", policy) is None
    assert curve_profile([], "BF16", policy) is None


def test_what_only_another_profile_quantizes_is_neither_bounded_nor_counted(tmp_path: Path, tiny_keys: c.Keys) -> None:
    model = c.random_model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    base = c.save_base(model, tmp_path / "base")
    head = as_torch(read_weights(base).holder("lm_head.weight"), "lm_head.weight")
    indices, values = c.valid_moves(head)
    edits = c.valid_edits(base)
    made = c.make(base, tmp_path / "made", tiny_keys, {**edits, "lm_head.weight": (indices[:500], values[:500])})

    def claim_the_head_too(data: dict) -> None:
        data["predicate"]["profiles"] = [profile().model_dump(), profile(skip=()).model_dump()]

    c.sign(made, c.digests_of(base), change=claim_the_head_too)
    found = check(made.model, made.manifest, keys=[tiny_keys.public], level="static").tradeoff
    assert found is not None
    assert found.surviving == sum(places.numel() for places, _ in edits.values()) <= found.bound


def test_the_curve_passes_through_the_size_of_this_edit(tiny_certificate: c.Certificate) -> None:
    made = tiny_certificate
    found = check(made.model, made.manifest, keys=[made.keys.public], level="static").tradeoff
    assert found is not None
    # else the line between two other sizes might run below a point that the bound allows
    assert found.at_most[found.budgets.index(found.norm)] == found.bound
