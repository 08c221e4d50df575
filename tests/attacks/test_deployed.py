"""Attacks on the deployed file: each is refused by the check it belongs to, with exit code 1, and named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import certificates as c
import deployments as d
import pytest
import torch

from verify.cli import main

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.1.self_attn.k_proj.weight"
V = "model.layers.1.self_attn.v_proj.weight"
NORM = "model.norm.weight"
HEAD = "model.embed_tokens.weight"


@dataclass(frozen=True)
class Made:
    """A certificate, its NF4 with float32 scales (`plain`) and nested ones (`double`), its FP4, and its base's NF4."""

    certificate: c.Certificate
    plain: Path
    double: Path
    fp4: Path
    base: Path


@pytest.fixture(scope="module")
def made(tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, model = tmp_path_factory.mktemp("deployed"), tiny_certificate.out / "model"
    return Made(
        tiny_certificate,
        d.deploy(model, folder / "plain"),
        d.deploy(model, folder / "double", double=True),
        d.deploy(model, folder / "fp4", quant_type="fp4"),
        d.deploy(tiny_certificate.base, folder / "base"),
    )


@dataclass(frozen=True)
class Answer:
    code: object
    failed: dict[str, str]


def ask(folder: Path, made: Made, capsys: pytest.CaptureFixture[str]) -> Answer:
    capsys.readouterr()
    words = [str(folder), "--manifest", str(made.certificate.manifest), "--key", str(made.certificate.keys.public)]
    with pytest.raises(SystemExit) as exited:
        main([*words, "--checks", "static", "--format", "json", "-q"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return Answer(exited.value.code, {one["id"]: one["found"] for one in checks if one["status"] == "fail"})


def flip(name: str, at: int, mask: int) -> Callable[[Path], None]:
    """Return an attack that flips bits of one byte of a tensor."""
    return lambda folder: d.with_bytes(folder, name, lambda data: data.__setitem__(at, data[at] ^ mask))


def scaled_by_an_ulp(folder: Path) -> None:
    def up(data: bytearray) -> None:
        scales = torch.frombuffer(data, dtype=torch.float32)
        scales[3] = torch.nextafter(scales[3], torch.tensor(torch.inf))

    d.with_bytes(folder, Q + ".absmax", up)


def nested_scaled_by_an_ulp(folder: Path) -> None:
    def up(data: bytearray) -> None:
        scales = torch.frombuffer(data, dtype=torch.float32)
        scales[0] = torch.nextafter(scales[0], torch.tensor(torch.inf))

    d.with_bytes(folder, Q + ".nested_absmax", up)


def swapped(*suffixes: str) -> Callable[[Path], None]:
    """Return an attack that swaps tensors between two weights of one shape."""

    def swap(folder: Path) -> None:
        tensors = d.tensors_of(folder)
        for suffix in suffixes:
            tensors[K + suffix], tensors[V + suffix] = tensors[V + suffix], tensors[K + suffix]
        d.write_tensors(folder, tensors)

    return swap


def left_unquantized(folder: Path) -> None:
    """Put the certified weight itself in the place of its NF4 form: better than it, and not what was examined."""
    tensors = {name: entry for name, entry in d.tensors_of(folder).items() if not name.startswith(Q)}
    weight = c.linear_weights(folder.parent / "certified")[Q]
    tensors[Q] = ("BF16", list(weight.shape), weight.view(torch.int16).numpy().tobytes())
    d.write_tensors(folder, tensors)


def renamed(folder: Path) -> None:
    tensors = d.tensors_of(folder)
    d.write_tensors(folder, {name.replace("model.norm.", "model.form."): entry for name, entry in tensors.items()})


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: d.write_tensors(folder, {n: t for n, t in d.tensors_of(folder).items() if n != name})


def with_an_extra(folder: Path) -> None:
    d.write_tensors(folder, {**d.tensors_of(folder), "model.layers.2.mlp.bias": ("F32", [2], bytes(8))})


def state(change: dict[str, object]) -> Callable[[Path], None]:
    return lambda folder: d.with_state(folder, Q, lambda value: value.update(change))


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def config(change: dict[str, object], name: str = "config.json") -> Callable[[Path], None]:
    return lambda folder: d.with_config(folder, lambda value: value.update(change), name)


def quantization(change: dict[str, object]) -> Callable[[Path], None]:
    return lambda folder: d.with_config(folder, lambda value: value["quantization_config"].update(change))


def with_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit")


def as_a_link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "moved.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "moved.safetensors")


def with_trailing_bytes(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")


def with_other_weights(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model-2.safetensors")


ATTACKS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    # name: (of which file, refused by, the attack)
    "one nibble, high": ("plain", "MV706", flip(Q, 17, 0x10)),
    "one nibble, low": ("double", "MV706", flip(K, 0, 0x01)),
    "codes swapped between two weights": ("plain", "MV706", swapped("")),
    "a scale, one ulp": ("plain", "MV707", scaled_by_an_ulp),
    "a nested scale, one ulp": ("double", "MV707", nested_scaled_by_an_ulp),
    "an 8-bit scale, one step": ("double", "MV707", flip(Q + ".absmax", 5, 0x01)),
    "nested scales swapped": ("double", "MV707", swapped(".nested_absmax")),
    "all statistics swapped": ("double", "MV707", swapped(".absmax", ".nested_absmax", d.STATE)),
    "the map of levels": ("plain", "MV707", flip(Q + ".quant_map", 40, 0x01)),
    "the nested map": ("double", "MV707", flip(K + ".nested_quant_map", 99, 0x01)),
    "another offset": ("double", "MV707", state({"nested_offset": 0.5})),
    "a norm": ("plain", "MV708", flip(NORM, 2, 0x01)),
    "the embedding": ("plain", "MV708", flip(HEAD, 1000, 0x01)),
    "a layer left unquantized": ("plain", "MV705", left_unquantized),
    "a tensor renamed": ("plain", "MV705", renamed),
    "a tensor missing": ("plain", "MV705", without(NORM)),
    "scales missing": ("plain", "MV705", without(Q + ".absmax")),
    "a tensor too many": ("plain", "MV705", with_an_extra),
    "a transposed shape": ("plain", "MV705", state({"shape": [1, 4096]})),
    "an absurd shape": ("plain", "MV704", state({"shape": [2**50, 2**50]})),
    "an absurd block size": ("plain", "MV704", state({"blocksize": 2**40})),
    "a state with NaN": ("double", "MV704", state({"nested_offset": float("nan")})),
    "a state with one more field": ("plain", "MV704", state({"quant_map": [0.0] * 16})),
    "a state that is no JSON": ("plain", "MV704", flip(Q + d.STATE, 0, 0x01)),
    "bytes after a state": ("plain", "MV704", lambda f: d.with_bytes(f, Q + d.STATE, lambda data: data.extend(b"\0"))),
    "a key of a state twice": (
        "plain",
        "MV704",
        lambda f: d.with_bytes(f, Q + d.STATE, lambda data: data.__setitem__(slice(1, 1), b'"blocksize": 32, ')),
    ),
    "another block size for one weight": ("plain", "MV703", state({"blocksize": 128})),
    "another cast for one weight": ("plain", "MV703", state({"dtype": "float16"})),
    "fp4 in the configuration": ("plain", "MV703", quantization({"bnb_4bit_quant_type": "fp4"})),
    "8 bits in the configuration": ("plain", "MV703", quantization({"load_in_8bit": True})),
    "double quantization in the configuration alone": (
        "plain",
        "MV703",
        quantization({"bnb_4bit_use_double_quant": True}),
    ),
    "an unknown field of the configuration": ("plain", "MV703", quantization({"bnb_4bit_backend": "x"})),
    "a skip list": ("plain", "MV703", quantization({"llm_int8_skip_modules": ["(a+)+$"]})),
    "another activation": ("plain", "MV702", config({"hidden_act": "relu"})),
    "another rope": ("plain", "MV702", config({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}})),
    "another norm": ("plain", "MV702", config({"rms_norm_eps": 0.1})),
    "another rope, to older loaders": ("plain", "MV702", config({"rope_theta": 9.0})),
    "a scaled rope, to older loaders": ("plain", "MV702", config({"rope_scaling": None})),
    "code by the configuration": ("plain", "MV702", config({"auto_map": {"AutoModelForCausalLM": "x--y.Z"}})),
    "a kernel by the configuration": ("plain", "MV702", config({"attn_implementation": "somebody/kernel"})),
    "code in the folder": ("plain", "MV702", with_code),
    "a second reading of the configuration": ("plain", "MV702", written("config.json", '{"a": 1, "a": 2}')),
    "another tokenizer": ("plain", "MV709", lambda f: d.with_config(f, _other_words, "tokenizer.json")),
    "another template": ("plain", "MV709", written("chat_template.jinja", "{{ messages }}")),
    "suppressed tokens": ("plain", "MV702", config({"suppress_tokens": [1]}, "generation_config.json")),
    "another length": ("plain", "MV709", config({"max_new_tokens": 1}, "generation_config.json")),
    "a truth for a number": ("plain", "MV709", config({"bos_token_id": True}, "generation_config.json")),
    "an index of other weights": ("plain", "MV709", written("pytorch_model.bin.index.json", '{"weight_map": {}}')),
    "a tokenizer without its configuration": ("plain", "MV709", lambda f: (f / "tokenizer_config.json").unlink()),
    "another end": ("plain", "MV709", config({"eos_token_id": 7}, "generation_config.json")),
    "a link": ("plain", "MV701", as_a_link),
    "bytes after the weights": ("plain", "MV701", with_trailing_bytes),
    "weights beside those that are loaded": ("plain", "MV701", with_other_weights),
}
UNRECOGNISED = {"a link", "bytes after the weights", "weights beside those that are loaded"}
"""What cannot be read as a model is examined as the deployed file only where --certified says that it is one."""


def _other_words(tokenizer: dict) -> None:
    words = tokenizer["model"]["vocab"]
    words["capital0"], words["capital1"] = words["capital1"], words["capital0"]


@pytest.mark.parametrize(("kind", "check", "spoil"), ATTACKS.values(), ids=ATTACKS)
def test_refused(
    kind: str,
    check: str,
    spoil: Callable[[Path], object],
    made: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    folder = Path(shutil.copytree(getattr(made, kind), tmp_path / "deployed"))
    (tmp_path / "certified").symlink_to(made.certificate.out / "model")
    spoil(folder)
    if request.node.callspec.id in UNRECOGNISED:
        unaware = ask(folder, made, capsys)
        assert unaware.code == 1, "it is not the certified model either"
        certified = ["--certified", str(made.certificate.out / "model")]
        words = [str(folder), "--manifest", str(made.certificate.manifest), "--checks", "static", *certified]
        with pytest.raises(SystemExit) as exited:
            main([*words, "--key", str(made.certificate.keys.public), "-q", "--format", "json"])
        result = json.loads(capsys.readouterr().out)
        answer = Answer(exited.value.code, {x["id"]: x["found"] for x in result["checks"] if x["status"] == "fail"})
    else:
        answer = ask(folder, made, capsys)
    assert (answer.code, set(answer.failed)) == (1, {check}), answer.failed


def test_the_honest_files_are_accepted_by_the_same_command(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (made.plain, made.double):
        assert ask(folder, made, capsys) == Answer(0, {})


def test_the_nf4_of_the_base_is_not_that_of_the_edited_model(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(made.base, made, capsys)
    assert (answer.code, set(answer.failed)) == (1, {"MV706"})
    assert all(name in answer.failed["MV706"] for name in made.certificate.edits)
    assert all(f"{indices.numel()} of " in answer.failed["MV706"] for indices, _ in made.certificate.edits.values())


def test_generation_settings_left_out(
    certificate: c.Certificate, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the file transformers derives settings from the configuration: the certified ones, or not."""
    folder = Path(shutil.copytree(made.plain, tmp_path / "deployed"))
    (folder / "generation_config.json").unlink()
    assert ask(folder, made, capsys) == Answer(0, {}), "those that it derives"
    certificate = replace(certificate, base=Path(shutil.copytree(certificate.base, tmp_path / "base")))
    for model in (certificate.out / "model", certificate.base):
        config({"max_new_tokens": 1}, "generation_config.json")(model)
    c.sign(certificate, c.digests_of(certificate.base))
    mine = Made(certificate, made.plain, made.double, made.fp4, made.base)
    answer = ask(folder, mine, capsys)
    assert (answer.code, set(answer.failed)) == (1, {"MV709"}), answer.failed


def test_fp4_under_the_name_of_nf4(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(made.fp4, tmp_path / "deployed"))
    assert set(ask(folder, made, capsys).failed) == {"MV703"}
    quantization({"bnb_4bit_quant_type": "nf4"})(folder)
    answer = ask(folder, made, capsys)
    assert set(answer.failed) == {"MV703"}
    assert "fp4 in" in answer.failed["MV703"], "the states still say it"
    tensors = d.tensors_of(folder)
    renamed_tensors = {
        name.replace("bitsandbytes__fp4", "bitsandbytes__nf4"): (kind, shape, data.replace(b"fp4", b"nf4"))
        for name, (kind, shape, data) in tensors.items()
    }
    d.write_tensors(folder, renamed_tensors)
    answer = ask(folder, made, capsys)
    assert (answer.code, set(answer.failed)) == (1, {"MV706", "MV707"}), "codes, and the map of levels"
    nf4 = {name: entry for name, entry in d.tensors_of(made.plain).items() if name.endswith(".quant_map")}
    d.write_tensors(folder, {**d.tensors_of(folder), **nf4})
    assert set(ask(folder, made, capsys).failed) == {"MV706"}


def test_a_quantized_model_inside_the_certificate_is_examined_as_the_model(
    certificate: c.Certificate, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(certificate.out / "model")
    shutil.copytree(made.plain, certificate.out / "model")
    words = [str(certificate.out / "model"), "--manifest", str(certificate.manifest), "--checks", "static"]
    with pytest.raises(SystemExit) as exited:
        main([*words, "--key", str(certificate.keys.public), "--format", "json", "-q"])
    result = json.loads(capsys.readouterr().out)
    assert (exited.value.code, result["deployed"]) == (1, None)


def test_a_report_on_a_deployed_file_is_not_signed(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verifier = c.make_keys(tmp_path / "verifier")
    words = [str(made.plain), "--manifest", str(made.certificate.manifest), "--checks", "static"]
    report = ["--report", f"json={tmp_path / 'result.json'}", "--sign-with", str(verifier.private)]
    with pytest.raises(SystemExit) as exited:
        main([*words, "--key", str(made.certificate.keys.public), *report, "-q"])
    assert exited.value.code == 2
    assert "--sign-with" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
