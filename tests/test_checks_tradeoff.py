"""The certificate's tradeoff: its numbers against the weights in memory, and the profile that it is for."""

import math

import certificates as c
import numpy as np
import torch

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
