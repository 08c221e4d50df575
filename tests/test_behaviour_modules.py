"""The rule on a model: patterns against transformers' own, complete surveys, and transposed weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_families import FAMILIES
from torch import Tensor
from transformers import AutoModelForCausalLM, initialization
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from verify.behaviour.loading import Language, empty_model, nf4_copy
from verify.behaviour.modules import QuantizedModule, Reason, _matches, _patterns, nf4_linears, survey
from verify.nf4 import dequantize, quantize

_PARTS = ("model", "layers", "1", "11", "mlp", "gate", "gate_proj", "lm_head")
_NAMES = st.lists(st.sampled_from(_PARTS), min_size=1, max_size=4).map(".".join)
_PATTERNS = st.one_of(_NAMES, st.sampled_from(["", "proj", r"model.*", r"layers.\d", "gate|mlp", ".", r".*1"]))


@given(_NAMES, _PATTERNS)
def test_patterns_match_as_in_transformers(name: str, pattern: str) -> None:
    assert _matches(pattern, name) is not should_convert_module(name, [pattern])


@pytest.mark.parametrize("family", FAMILIES)
def test_default_patterns_are_those_of_transformers(family: str) -> None:
    config = FAMILIES[family](64)
    # transformers asks before it ties, so a tied head is still the last parameter; ours are asked after
    with torch.device("meta"), initialization.no_tie_weights():
        untied = AutoModelForCausalLM.from_config(config)
    ours = {pattern for reason, pattern, _ in _patterns(empty_model(config), None) if reason is not Reason.FLOAT32}
    assert ours == set(get_keys_to_not_convert(untied))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_survey_accounts_for_every_parameter_once(family: str) -> None:
    model = empty_model(FAMILIES[family](64))
    found = survey(model)
    named = [entry.name for entry in (*found.quantized, *found.skipped)]
    assert len(named) == len(set(named))
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters(remove_duplicate=False)}
    assert set(named) == owners
    assert list(nf4_linears(model)) == [entry.name for entry in found.quantized]
    assert not {"lm_head", "embed_out"} & set(nf4_linears(model))


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_turning_moves_every_value_to_its_position(rows: int, columns: int, transposed: bool) -> None:
    entry = QuantizedModule("m", "m.weight", (rows, columns), transposed)
    stored = torch.arange(rows * columns).reshape((columns, rows) if transposed else (rows, columns))
    matrix = entry.turned(stored)
    assert tuple(matrix.shape) == entry.shape
    indices = torch.arange(stored.numel())
    assert torch.equal(matrix.reshape(-1)[entry.positions(indices)], stored.reshape(-1)[indices])
    assert torch.equal(entry.turned(matrix), stored)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2", "gpt-neox", "phi3"])
def test_a_copy_in_nf4_is_quantized_in_blocks_of_the_matrix(family: str) -> None:
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](40), dtype=torch.float32).eval()
    copied = nf4_copy(Language(model, None), torch.float32).model
    before: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    quantized = {entry.weight: entry for entry in survey(model).quantized}
    for name, parameter in copied.named_parameters(remove_duplicate=False):
        weight = before[name]
        if name in quantized:
            turned = weight.T.contiguous() if family == "gpt2" else weight
            expected = dequantize(quantize(turned))
            assert torch.equal(parameter, expected.T if family == "gpt2" else expected), name
            assert not torch.equal(parameter, weight)
        else:
            assert torch.equal(parameter, weight), name
