"""Models of an audit: loaded in turn, freed in turn, and after NF4 what a copy beside them would be."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import certificates as c
import pytest
import torch
from audited import edited, noisy, silent

from verify.audit.compare import Sides
from verify.audit.deployment import deployment
from verify.audit.models import Models
from verify.audit.weights import open_weights, small_files
from verify.behaviour.loading import into_nf4, load, nf4_copy


@pytest.fixture
def models(tiny_base: Path, tmp_path: Path) -> Iterator[Models]:
    other = edited(tiny_base, tmp_path / "edited", noisy(0.01))
    files = small_files(tiny_base), small_files(other)
    with open_weights(tiny_base) as base, open_weights(other) as its:
        yield Models(Sides(base, its), files, deployment(*files, tensors=len(base.tensors)), progress=silent)


def state(models: Models, which: str) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in models[which].model.state_dict().items()}  # type: ignore[index]


def test_each_is_freed_before_the_next_and_the_base_stays_where_it_lends(models: Models) -> None:
    first = weakref.ref(models["base"].model)
    assert models["base"].model is first()
    assert models["base_nf4"].model is first()  # in place
    second = weakref.ref(models["edited"].model)
    assert first() is None
    base = weakref.ref(models.keep_base().model)
    assert second() is None
    assert models["edited"].model is not base()
    third = weakref.ref(models["edited"].model)
    assert models["base"].model is models.keep_base().model is base()
    assert models["base_nf4"].model is not base()
    assert third() is None


def test_they_are_what_they_are_in_any_order(models: Models) -> None:
    forward = {which: state(models, which) for which in models}
    models.keep_base()
    for which in reversed(list(models)):
        again = state(models, which)
        assert again.keys() == forward[which].keys()
        assert all(torch.equal(again[name], weight) for name, weight in forward[which].items())
    names = [name for name in forward["base"] if name.endswith("_proj.weight")]
    assert names
    for full, nf4 in (("base", "base_nf4"), ("edited", "edited_nf4"), ("base", "edited")):
        assert not any(torch.equal(forward[full][name], forward[nf4][name]) for name in names)
    assert torch.equal(forward["base"]["model.norm.weight"], forward["base_nf4"]["model.norm.weight"])


@pytest.mark.parametrize("skip", [None, ()])
def test_in_place_is_what_the_copy_is(tiny_base: Path, skip: tuple[str, ...] | None) -> None:
    tied = c.random_model()
    assert tied.config.tie_word_embeddings
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir() if path.suffix == ".json"}
    language = load(files, {k: v for k, v in tied.state_dict().items() if k != "lm_head.weight"})
    copied = nf4_copy(language, torch.bfloat16, skip_modules=skip).model
    ids = torch.arange(8)[None]
    with torch.no_grad():
        expected = copied(input_ids=ids).logits.clone()
        before = language.model(input_ids=ids).logits.clone()
        assert torch.equal(into_nf4(language, torch.bfloat16, skip_modules=skip).model(input_ids=ids).logits, expected)
    assert not torch.equal(before, expected)
