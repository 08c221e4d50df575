"""Loading from bytes gives the model that transformers gives, in the families whose buffers are not in the files."""

from pathlib import Path

import pytest
import tiny_families
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from verify.behaviour.loading import empty_model, fill
from verify.errors import ArtefactError


@pytest.mark.parametrize("name", ["llama-tied", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"])
def test_a_filled_model_is_the_one_transformers_loads(name: str, tmp_path: Path) -> None:
    folder = tiny_families.save(tiny_families.FAMILIES[name](64), tmp_path, stored=torch.float32)
    wanted = AutoModelForCausalLM.from_pretrained(folder).eval()
    model = empty_model(wanted.config)
    fill(model, load_file(folder / "model.safetensors"))
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, wanted(ids).logits)


def test_a_buffer_that_nothing_computes_is_refused(tmp_path: Path) -> None:
    folder = tiny_families.save(tiny_families.FAMILIES["llama-tied"](64), tmp_path, stored=torch.float32)
    model = empty_model(AutoModelForCausalLM.from_pretrained(folder).config)
    model.register_buffer("strange", torch.zeros(1, device="meta"), persistent=False)
    with pytest.raises(ArtefactError, match="some weights are in no file") as caught:
        fill(model, load_file(folder / "model.safetensors"))
    assert caught.value.id == "MV106"
