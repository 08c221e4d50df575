"""The engine on families other than Llama: a certificate whose static checks hold, or a clear refusal."""

from pathlib import Path

import certificates as c
import pytest
import tiny_unlearning as t
import torch
from test_circuits_families import FAMILIES
from test_mansu_unlearn import known_facts, run
from torch import nn

from mansu.mask.selection import circuit_regions
from verify.behaviour.modules import nf4_linears
from verify.check import check
from verify.circuits import describe, full_circuit
from verify.errors import UsageError


def family_model(name: str, layers: int = 4, seed: int = 1) -> nn.Module:
    """A random model of a family, of the sizes of `certificates.random_model`."""
    build, configure, extra = FAMILIES[name]
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(c.tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    own = {key: value for key, value in extra.items() if key not in ("layer_types", "n_inner")}
    return build(configure(**(sizes | own)))


@pytest.mark.parametrize("name", ["phi3", "gemma3"])
def test_other_families_are_edited_and_certified(
    name: str, tmp_path: Path, tiny_keys: c.Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "random_model", lambda seed, layers: family_model(name, layers, seed))
    base = c.save_base(t.trained_model(layers=2, steps=80), tmp_path / "base")
    outcome = run(base, tmp_path, tiny_keys, forget=known_facts())
    out = tmp_path / "out"
    found = check(out / "model", out / "m.json", keys=[tiny_keys.public], level="static")
    assert found.verdict == "PASS", found.headline
    assert found.permanence[0].masked == outcome.changed > 0


@pytest.mark.parametrize(
    ("name", "message"), [("gpt2", "Conv1D"), ("gpt-neox", "do not fit"), ("mixtral", "do not fit")]
)
def test_families_that_cannot_be_edited_are_refused(name: str, message: str, tmp_path: Path, tiny_keys: c.Keys) -> None:
    base = c.save_base(family_model(name, layers=2), tmp_path / "base")
    with pytest.raises(UsageError, match=message) as caught:
        run(base, tmp_path, tiny_keys)
    assert caught.value.id == "ME210"


def test_the_mask_takes_no_experts() -> None:
    model = family_model("mixtral", layers=2)
    family = describe(model)
    regions = circuit_regions(family, full_circuit(family.graph), nf4_linears(model), from_layer=0, below_layer=2)
    assert {name.split(".")[-1] for name in regions} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all(bool(region.all()) for region in regions.values())
