"""The deployed file: real saves of transformers and bitsandbytes are accepted, and everything near them is not.

What an attacker would do to one is in tests/attacks/test_deployed.py.
"""

import json
import shutil
from pathlib import Path

import certificates as c
import deployments as d
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from verify.artefact import open_regular, read_layout
from verify.check import check
from verify.checks.catalog import DEPLOYED_CATALOGUE
from verify.checks.deployed_folder import locate
from verify.checks.deployed_tensors import Digests, digest
from verify.contract.result import Result
from verify.errors import ArtefactError, UsageError
from verify.nf4 import double_quantize, quantize

DOWN = "model.layers.0.mlp.down_proj.weight"


def checked(folder: Path, made: c.Certificate, *, certified: Path | None = None) -> Result:
    return check(folder, made.manifest, keys=[made.keys.public], level="static", certified=certified)


def failed(result: Result) -> set[str]:
    return {entry.id for entry in result.checks if entry.status == "fail"}


def found(result: Result, check_id: str) -> str:
    return next(entry.found for entry in result.checks if entry.id == check_id)


@pytest.fixture(scope="module")
def saved(tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("deployed")
    model = tiny_certificate.out / "model"
    return {
        "plain": d.deploy(model, folder / "plain"),
        "double": d.deploy(model, folder / "double", double=True),
        "float32": d.deploy(model, folder / "float32", dtype=torch.float32),
        "bf16 compute": d.deploy(model, folder / "bf16", double=True, compute=torch.bfloat16),
        "shards": d.deploy(model, folder / "shards", shard_size="50KB"),
    }


@pytest.fixture
def copied(saved: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved["plain"], tmp_path / "copy"))


@pytest.mark.parametrize("kind", ["plain", "double", "float32", "bf16 compute", "shards"])
def test_what_transformers_saves_is_accepted(
    kind: str, saved: dict[str, Path], tiny_certificate: c.Certificate
) -> None:
    result = checked(saved[kind], tiny_certificate)
    assert (result.verdict, failed(result)) == ("PASS", set())
    assert result.rests_on.startswith("deployed checks (9 ")
    assert result.headline.startswith("The deployed file is exactly the certified model under NF4, blocks of 64")
    assert result.deployed is not None
    assert (result.deployed.quantized, result.deployed.differing_total) == (14, 0)
    assert ("8-bit" in result.deployed.profile) == (kind in {"double", "bf16 compute"})
    assert result.deployed.dtype == ("float32" if kind == "float32" else "bfloat16")
    named = {file.name: file.sha256 for file in result.files}
    assert all(named[f"deployed/{name}"] == sha for name, sha in c.digests_of(saved[kind]).items())


def test_without_a_deployed_file_none_of_its_checks_is_in_the_result(tiny_certificate: c.Certificate) -> None:
    result = checked(tiny_certificate.model, tiny_certificate)
    assert result.deployed is None
    assert not DEPLOYED_CATALOGUE.keys() & {entry.id for entry in result.checks}
    assert "deployed" not in result.rests_on


def test_the_certified_model_may_lie_elsewhere(
    certificate: c.Certificate, saved: dict[str, Path], tmp_path: Path
) -> None:
    model = (certificate.out / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="no certified model") as caught:
        checked(saved["plain"], certificate)
    assert "--certified" in caught.value.remedy
    assert checked(saved["plain"], certificate, certified=model).verdict == "PASS"
    assert "--certified" in checked(saved["plain"], certificate, certified=model).repeat
    with pytest.raises(UsageError, match="the folder to be checked"):
        locate(model, certificate.manifest, model)


def test_a_certified_model_that_is_not_as_signed_fails_whatever_was_deployed(
    certificate: c.Certificate, saved: dict[str, Path]
) -> None:
    norm = "model.norm.weight"
    c.poke(certificate, norm, 0, c.value_at(certificate, norm, 0) + 1)
    result = checked(saved["plain"], certificate)
    assert {"MV105", "MV708"} <= failed(result)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ({"dtype": torch.float16}, "weights as float16"),
        ({"skip": ["q_proj"]}, "not in ('q_proj',)"),
        ({"quant_type": "fp4"}, "fp4"),
    ],
    ids=["another cast", "another skip list", "fp4"],
)
def test_a_profile_that_nobody_claims_is_refused_by_name(
    kind: dict, text: str, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    result = checked(d.deploy(tiny_certificate.out / "model", tmp_path / "n", **kind), tiny_certificate)
    assert failed(result) == {"MV703"}
    assert text in found(result, "MV703")


def test_an_offset_that_another_backend_rounds_otherwise_is_that_of_the_same_scales(
    saved: dict[str, Path], tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    """The 8-bit codes are then compared under the offset that is stored; here they do not change."""
    folder = Path(shutil.copytree(saved["double"], tmp_path / "n"))

    def further(factor: float) -> Result:
        def move(state: dict) -> None:
            state["nested_offset"] = torch.tensor(state["nested_offset"] * factor).item()

        d.with_state(folder, DOWN, move)
        return checked(folder, tiny_certificate)

    assert "MV707" in failed(further(1 + 2.0**-18))
    assert "nested_offset" in found(further(1.0), "MV707")


@pytest.mark.parametrize("tied", [True, False])
def test_heads_tied_or_not(tied: bool, tiny_keys: c.Keys, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(c.tokenizer()),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    base = c.save_base(LlamaForCausalLM(config), tmp_path / "base")
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base))
    folder = d.deploy(made.out / "model", tmp_path / "n")
    assert checked(folder, made).verdict == "PASS"
    tensors = d.tensors_of(folder)
    assert ("lm_head.weight" in tensors) != tied
    embedding = tensors["model.embed_tokens.weight"]
    d.write_tensors(folder, {**tensors, "lm_head.weight": embedding})
    assert failed(checked(folder, made)) == (set() if tied else {"MV708"})
    if tied:
        other = (embedding[0], embedding[1], bytes(len(embedding[2])))
        d.write_tensors(folder, {**tensors, "lm_head.weight": other})
        assert failed(checked(folder, made)) == {"MV708"}


def test_a_family_that_stores_its_weights_transposed(tiny_keys: c.Keys, tmp_path: Path) -> None:
    torch.manual_seed(4)
    size = {"n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}
    base = c.save_base(GPT2LMHeadModel(GPT2Config(vocab_size=len(c.tokenizer()), **size)), tmp_path / "base")
    name = "transformer.h.0.mlp.c_fc.weight"
    made = c.make(base, tmp_path / "out", tiny_keys, {name: (torch.tensor([5]), torch.tensor([0.5]).bfloat16())})
    folder = d.deploy(made.out / "model", tmp_path / "n", double=True)
    result = checked(folder, made)
    assert {entry.id for entry in result.checks if entry.group == "deployed" and entry.status != "pass"} == set()
    assert result.deployed is not None
    assert result.deployed.quantized == 4
    d.with_bytes(folder, name, lambda data: data.__setitem__(0, data[0] ^ 1))
    assert "MV706" in failed(checked(folder, made))


def test_files_beside_the_weights(copied: Path, tiny_certificate: c.Certificate) -> None:
    (copied / "README.md").write_text("made by hand")
    text = json.loads((copied / "tokenizer.json").read_text())
    (copied / "tokenizer.json").write_text(json.dumps(text, indent=7))
    assert checked(copied, tiny_certificate).verdict == "PASS", "the same JSON, and a file that no loader reads"
    (copied / "tokenizer.json").unlink()
    result = checked(copied, tiny_certificate)
    assert result.verdict == "PASS"
    assert "not there: 'tokenizer.json'" in found(result, "MV709")


def test_what_was_deployed_without_being_recognised_can_be_named(
    tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    """A folder without a single quantization state is a model like any other, unless --certified says otherwise."""
    folder = Path(shutil.copytree(tiny_certificate.out / "model", tmp_path / "plain"))
    assert locate(folder, tiny_certificate.manifest, None) is None
    result = checked(folder, tiny_certificate, certified=tiny_certificate.out / "model")
    assert failed(result) == {"MV703"}


def test_statistics_averaged_on_another_backend_are_compared_under_their_own_offset(
    saved: dict[str, Path], tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved["double"], tmp_path / "n"))
    weight = c.linear_weights(tiny_certificate.out / "model")[DOWN]
    scales = quantize(weight).absmax
    offset = torch.nextafter(scales.mean(), torch.tensor(torch.inf)).item()
    d.with_state(folder, DOWN, lambda state: state.update(nested_offset=offset))
    nested = double_quantize(scales, offset=offset)
    d.with_bytes(folder, DOWN + ".absmax", lambda data: data.__setitem__(slice(None), nested.codes.numpy().tobytes()))
    other = nested.absmax.numpy().tobytes()
    d.with_bytes(folder, DOWN + ".nested_absmax", lambda data: data.__setitem__(slice(None), other))
    assert checked(folder, tiny_certificate).verdict == "PASS"


def test_a_file_swapped_after_its_header_was_read_is_not_hashed_as_the_first(
    saved: dict[str, Path], copied: Path
) -> None:
    """Else the digest in the result would be that of a file that never was: one header, and another's tensors."""
    name = "model.safetensors"
    with open_regular(name, root=saved["plain"]) as file:
        layout = read_layout(file.read, file.size, name=name)
        digest(file, layout, Digests(), progress=lambda _count: None)
    path = copied / name
    norms = [b"layers.0.input_layernorm", b"layers.1.input_layernorm"]
    data = path.read_bytes().replace(norms[0], b"%", 1).replace(norms[1], norms[0], 1).replace(b"%", norms[1], 1)
    for spoiled in (data, path.read_bytes() + b"\0"):
        path.write_bytes(spoiled)
        with open_regular(name, root=copied) as file, pytest.raises(ArtefactError, match="changed") as caught:
            digest(file, layout, Digests(), progress=lambda _count: None)
        assert caught.value.id == "MV101"
