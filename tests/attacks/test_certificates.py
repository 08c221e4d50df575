"""Spoiled certificates: each is refused with exit 1 and the id of the check that catches it, signed again or not.

Every case runs the command's own `main`; a few run it as a process of its own, as a user does.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import certificates as c
import pytest
import torch
from safetensors.torch import load_file, save_file

from verify.artefact import LedgerEntry, as_torch, read_weights, walk
from verify.cli import main
from verify.contract.manifest import Claim
from verify.contract.schema import Estimate
from verify.nf4 import quantize

FILES = (
    "ledger.safetensors",
    "m.json",
    "model/config.json",
    "model/generation_config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "probes/choices.jsonl",
    "probes/pairs.jsonl",
    "probes/pools.json",
    "probes/text.jsonl",
)


class Answer:
    """What the command said, and which checks failed."""

    def __init__(self, code: int, output: str) -> None:
        self.code, self.output = code, output
        self.checks = {check["id"]: check for check in json.loads(output)["checks"]}
        self.failed = {check_id for check_id, check in self.checks.items() if check["status"] == "fail"}


def words(made: c.Certificate, *extra: str, key: Path | None = None, model: Path | None = None) -> list[str]:
    model = made.model if model is None else model
    key = made.keys.public if key is None else key
    return [str(model), "--manifest", str(made.manifest), "--key", str(key), "--checks", "static", *extra]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(made: c.Certificate, *extra: str, **options: Path) -> Answer:
        with pytest.raises(SystemExit) as exited:
            main([*words(made, *extra, **options), "--format", "json"])
        captured = capsys.readouterr()
        if exited.value.code == 1:
            assert "PASS" not in captured.out + captured.err
        return Answer(exited.value.code, captured.out)

    return run


Ask = Callable[..., Answer]


def refused(answer: Answer, *ids: str) -> None:
    assert answer.code == 1
    assert set(ids) <= answer.failed, answer.failed


def a_masked_value(made: c.Certificate) -> tuple[str, int, torch.Tensor]:
    """Return the tensor, flat index and base value of one masked parameter."""
    name, entry = next(iter(c.entries_of(made).items()))
    return name, int(entry.indices[2]), entry.base[2]


def an_unmasked_value(made: c.Certificate) -> tuple[str, int, torch.Tensor]:
    """Return the tensor, index and a valid new value of a parameter that nobody declared."""
    name = "model.layers.1.mlp.up_proj.weight"
    assert name not in c.entries_of(made)
    indices, values = c.valid_moves(c.linear_weights(made.out / "model")[name])
    return name, int(indices[5]), values[5]


def half_a_move(made: c.Certificate, name: str, index: int, base: torch.Tensor) -> torch.Tensor:
    """Return a value that differs from the base's by less than half its bin."""
    weight = c.linear_weights(made.base)[name]
    scale = quantize(weight).scales().reshape(-1)[index]
    return (base.float() + 0.03 * scale).to(torch.bfloat16)


# --- not signed again: the digests see everything -------------------------------------------------------------------


def test_the_honest_certificate_is_accepted(tiny_certificate: c.Certificate, ask: Ask) -> None:
    answer = ask(tiny_certificate)
    assert answer.code == 0
    assert not answer.failed
    assert "PASS" in answer.output
    assert tuple(walk(tiny_certificate.out)) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file(certificate: c.Certificate, ask: Ask, name: str) -> None:
    path = certificate.out / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x04
    path.write_bytes(data)
    answer = ask(certificate)
    assert answer.code == 1
    assert answer.failed & ({"MV102", "MV103", "MV104"} if name == "m.json" else {"MV105"})


@pytest.mark.parametrize("name", [name for name in FILES if name not in {"m.json", "model/model.safetensors"}])
def test_a_missing_file(certificate: c.Certificate, ask: Ask, name: str) -> None:
    (certificate.out / name).unlink()
    answer = ask(certificate)
    refused(answer, "MV105")
    assert name in answer.checks["MV105"]["found"]
    if name == "ledger.safetensors":
        refused(answer, "MV120")


@pytest.mark.parametrize("name", ["model/extra.txt", "model/sub/.hidden", "probes/more.jsonl"])
def test_an_extra_file(certificate: c.Certificate, ask: Ask, name: str) -> None:
    (certificate.out / name).parent.mkdir(exist_ok=True)
    (certificate.out / name).write_text("x")
    refused(ask(certificate), "MV105")


def test_a_report_beside_the_certificate_is_no_extra_file(certificate: c.Certificate, ask: Ask) -> None:
    (certificate.out / "report").mkdir()
    (certificate.out / "report" / "report.html").write_text("x")
    assert ask(certificate).code == 0


@pytest.mark.parametrize("name", ["model/tokenizer.json", "probes/text.jsonl"])
def test_a_renamed_file(certificate: c.Certificate, ask: Ask, name: str) -> None:
    (certificate.out / name).rename(certificate.out / f"{name}.old")
    refused(ask(certificate), "MV105")


def test_renamed_weights(certificate: c.Certificate, ask: Ask) -> None:
    renamed = certificate.model.rename(certificate.model.with_name("other.safetensors"))
    refused(ask(certificate, model=renamed), "MV105", "MV111")


def test_a_link_in_place_of_a_file(certificate: c.Certificate, ask: Ask) -> None:
    config = certificate.out / "model" / "config.json"
    config.rename(certificate.out / "elsewhere.json")
    config.symlink_to(certificate.out / "elsewhere.json")
    refused(ask(certificate), "MV101")


def test_the_wrong_key(certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    answer = ask(certificate, key=c.make_keys(tmp_path / "thief").public)
    refused(answer, "MV103")
    assert json.loads(answer.output)["trust"]["signature"] == "invalid"


def test_the_manifest_of_another_model(certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    other_base = c.save_base(c.random_model(seed=7), tmp_path / "base")
    other = c.make(other_base, tmp_path / "other", certificate.keys, c.valid_edits(other_base))
    shutil.copy(other.manifest, certificate.manifest)
    refused(ask(certificate), "MV105", "MV107")


def test_a_masked_parameter_put_back(certificate: c.Certificate, ask: Ask) -> None:
    name, index, base = a_masked_value(certificate)
    c.poke(certificate, name, index, base)
    refused(ask(certificate), "MV105", "MV109", "MV203", "MV204")


def test_a_masked_parameter_moved_by_less_than_half_its_bin(certificate: c.Certificate, ask: Ask) -> None:
    name, index, base = a_masked_value(certificate)
    c.poke(certificate, name, index, half_a_move(certificate, name, index, base))
    refused(ask(certificate), "MV105", "MV203")


def test_an_unmasked_parameter_changed(certificate: c.Certificate, ask: Ask) -> None:
    c.poke(certificate, *an_unmasked_value(certificate))
    refused(ask(certificate), "MV105", "MV107")


# --- signed again by a dishonest producer: every digest and count fits -----------------------------------------------


def test_signed_again_a_masked_parameter_put_back_and_left_in_the_ledger(certificate: c.Certificate, ask: Ask) -> None:
    name, index, base = a_masked_value(certificate)
    c.poke(certificate, name, index, base)
    c.sign(certificate, c.digests_of(certificate.base))
    answer = ask(certificate)
    refused(answer, "MV109", "MV203", "MV204", "MV206")
    assert not answer.failed & {"MV103", "MV105", "MV107"}


def test_signed_again_a_move_of_less_than_half_a_bin_listed_as_masked(certificate: c.Certificate, ask: Ask) -> None:
    name, index, base = a_masked_value(certificate)
    c.poke(certificate, name, index, half_a_move(certificate, name, index, base))
    c.sign(certificate, c.digests_of(certificate.base))
    answer = ask(certificate)
    refused(answer, "MV203")
    assert not answer.failed & {"MV103", "MV105", "MV107", "MV109"}
    assert str(index) in answer.checks["MV203"]["found"]


def test_signed_again_an_unmasked_change_listed_in_the_ledger(certificate: c.Certificate, ask: Ask) -> None:
    """A change that would not survive NF4, smuggled into the ledger: the rows of permanence see it."""
    name, index, _ = an_unmasked_value(certificate)
    base = c.value_at(certificate, name, index)
    c.poke(certificate, name, index, half_a_move(certificate, name, index, base))
    c.write_entries(certificate, c.with_entry(c.entries_of(certificate), name, index, base))
    c.sign(certificate, c.digests_of(certificate.base))
    answer = ask(certificate)
    refused(answer, "MV203")
    assert not answer.failed & {"MV103", "MV105", "MV107", "MV109"}


def test_signed_again_an_unmasked_change_hidden_in_a_falsified_base(certificate: c.Certificate, ask: Ask) -> None:
    """Only the vendor's digest, pinned by the user, can tell."""
    honest = c.digests_of(certificate.base)["model.safetensors"]
    c.poke(certificate, *an_unmasked_value(certificate))
    c.sign(certificate, c.rebuilt_digests(certificate))
    unpinned = ask(certificate)
    assert unpinned.code == 0
    assert json.loads(unpinned.output)["trust"]["base_digest"] == "claimed by the producer"
    for pin in (honest, f"model.safetensors={honest}"):
        answer = ask(certificate, "--base-digest", pin)
        refused(answer, "MV107")
        assert json.loads(answer.output)["trust"]["base_digest"] == "not established"


def test_a_pin_that_fits(tiny_certificate: c.Certificate, ask: Ask) -> None:
    honest = c.digests_of(tiny_certificate.base)["model.safetensors"]
    answer = ask(tiny_certificate, "--base-digest", honest)
    assert answer.code == 0
    assert json.loads(answer.output)["trust"]["base_digest"] == "pinned by the user"


def test_a_pin_of_a_file_that_the_base_does_not_have(tiny_certificate: c.Certificate, ask: Ask) -> None:
    refused(ask(tiny_certificate, "--base-digest", f"other.safetensors={c.ZERO}"), "MV107")


def test_a_pin_of_another_file_alone_does_not_pin_the_weights(tiny_certificate: c.Certificate, ask: Ask) -> None:
    config = c.digests_of(tiny_certificate.base)["config.json"]
    answer = ask(tiny_certificate, "--base-digest", f"config.json={config}")
    assert answer.code == 0
    assert json.loads(answer.output)["trust"]["base_digest"] == "claimed by the producer"


def test_signed_again_a_swapped_base(certificate: c.Certificate, ask: Ask) -> None:
    """The ledger's base values are another model's: what it rebuilds is not the base that the manifest names."""
    entries = c.entries_of(certificate)
    swapped = {name: LedgerEntry(entry.indices, entry.base * 2) for name, entry in entries.items()}
    c.write_entries(certificate, swapped)
    c.sign(certificate, c.digests_of(certificate.base))
    refused(ask(certificate), "MV107")


def test_signed_again_with_the_digest_of_another_base(certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    other = c.save_base(c.random_model(seed=7), tmp_path / "base")
    c.sign(certificate, c.digests_of(other))
    refused(ask(certificate), "MV107")


def test_signed_again_a_decoy_mask_on_an_embedding(certificate: c.Certificate, ask: Ask) -> None:
    name = "model.embed_tokens.weight"
    base = c.value_at(certificate, name, 5)
    c.poke(certificate, name, 5, base + 1)
    c.write_entries(certificate, c.with_entry(c.entries_of(certificate), name, 5, base))
    c.sign(certificate, c.digests_of(certificate.base))
    answer = ask(certificate)
    refused(answer, "MV202")
    assert not answer.failed & {"MV103", "MV105", "MV107", "MV109"}


def test_signed_again_a_decoy_mask_alone_is_not_enough(
    tiny_base: Path, tiny_keys: c.Keys, tmp_path: Path, ask: Ask
) -> None:
    weights = read_weights(tiny_base)
    name = "model.norm.weight"
    value = as_torch(weights.holder(name), name)[:3].clone()
    made = c.make(tiny_base, tmp_path / "out", tiny_keys, {name: (torch.arange(3), value * 2)})
    refused(ask(made), "MV202", "MV210")


def test_signed_again_double_claims(certificate: c.Certificate, ask: Ask) -> None:
    low, high = (
        Claim(
            axis="forgetting",
            row="capitals, held-out wordings",
            precision="full",
            estimate=Estimate(value=value, low=value, high=value, n=40),
        )
        for value in (0.01, 0.5)
    )
    c.sign(certificate, c.digests_of(certificate.base), claims=(low, high))
    refused(ask(certificate), "MV102")


def test_signed_again_with_a_raised_absmax(certificate: c.Certificate, ask: Ask) -> None:
    """A masked value beyond its block's scale rescales its neighbours: their codes change though they do not."""
    name, index, _ = a_masked_value(certificate)
    scale = quantize(c.linear_weights(certificate.base)[name]).scales().reshape(-1)[index]
    c.poke(certificate, name, index, (3 * scale).to(torch.bfloat16))
    c.sign(certificate, c.digests_of(certificate.base))
    answer = ask(certificate)
    refused(answer, "MV207", "MV208")


def test_signed_again_with_a_value_that_is_not_finite(certificate: c.Certificate, ask: Ask) -> None:
    name, index, _ = a_masked_value(certificate)
    c.poke(certificate, name, index, torch.tensor(float("nan"), dtype=torch.bfloat16))
    c.sign(certificate, c.digests_of(certificate.base))
    refused(ask(certificate), "MV201")


def test_signed_again_too_dense_an_edit(tiny_base: Path, tiny_keys: c.Keys, tmp_path: Path, ask: Ask) -> None:
    made = c.make(tiny_base, tmp_path / "out", tiny_keys, c.valid_edits(tiny_base, tensors=6, each=200))
    answer = ask(made)
    refused(answer, "MV209")
    assert answer.failed == {"MV209"}


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask.update(masked=mask["masked"] - 1),
        lambda mask: mask.update(parameters=mask["parameters"] + 1),
        lambda mask: mask.update(ledger_sha256=c.ZERO),
        lambda mask: mask["tensors"].pop(),
        lambda mask: mask["tensors"][0].update(masked=1),
        lambda mask: mask["tensors"][0].update(total=10**6),
    ],
)
def test_signed_again_with_a_mask_that_is_not_the_ledgers(
    certificate: c.Certificate, ask: Ask, change: Callable[[dict], None]
) -> None:
    c.sign(certificate, c.digests_of(certificate.base), change=lambda data: change(data["predicate"]["mask"]))
    answer = ask(certificate)
    assert answer.code == 1
    assert answer.failed == {"MV109"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "x.X"}}),
        ("config.json", {"quantization_config": {"load_in_4bit": True}}),
        ("adapter_config.json", {"peft_type": "LORA"}),
    ],
)
def test_signed_again_a_folder_that_is_not_what_it_seems(
    certificate: c.Certificate, ask: Ask, name: str, text: dict[str, object]
) -> None:
    path = certificate.out / "model" / name
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **text}))
    c.sign(certificate, c.rebuilt_digests(certificate))
    refused(ask(certificate), "MV106")


def test_signed_again_a_pickle_beside_the_weights(certificate: c.Certificate, ask: Ask) -> None:
    (certificate.out / "model" / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    c.sign(certificate, c.rebuilt_digests(certificate))
    refused(ask(certificate), "MV106")


def test_signed_again_a_file_that_the_base_does_not_have(certificate: c.Certificate, ask: Ask) -> None:
    (certificate.out / "model" / "chat_template.jinja").write_text("{{ 'I never forget' }}")
    c.sign(certificate, c.digests_of(certificate.base))
    refused(ask(certificate), "MV108")


def test_signed_again_a_second_weight_file(certificate: c.Certificate, ask: Ask) -> None:
    save_file({"x": torch.zeros(2)}, certificate.out / "model" / "more.safetensors")
    c.sign(certificate, c.digests_of(certificate.base))
    refused(ask(certificate), "MV111")


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 0},
        {"hidden_size": -1},
        {"model_type": "none"},
        {"vocab_size": 7},
        {"rope_scaling": "x"},
        {"hidden_act": "os.system"},
        {"head_dim": 0},
    ],
)
def test_signed_again_a_hostile_configuration(certificate: c.Certificate, ask: Ask, config: dict[str, object]) -> None:
    path = certificate.out / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    c.sign(certificate, c.rebuilt_digests(certificate))
    refused(ask(certificate), "MV106")


def test_signed_again_a_second_output_head_beside_the_tied_one(tiny_keys: c.Keys, tmp_path: Path, ask: Ask) -> None:
    """Some loaders would tie the head to the embedding, others take the stored one: another model for each."""
    base = c.save_base(c.random_model(), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    head = tensors["model.embed_tokens.weight"]
    for name, values, code in (("same", head.clone(), 0), ("other", head + 1, 1)):
        save_file({**tensors, "lm_head.weight": values}, base / "model.safetensors", metadata={"format": "pt"})
        answer = ask(c.make(base, tmp_path / name, tiny_keys, c.valid_edits(base)))
        assert answer.code == code
        assert ("MV106" in answer.failed) is (code == 1)


# --- as a process of its own -----------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verify.cli", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_as_a_command_a_dishonest_producer_is_refused_and_the_reports_exist(
    certificate: c.Certificate, tmp_path: Path
) -> None:
    name, index, base = a_masked_value(certificate)
    c.poke(certificate, name, index, base)
    c.sign(certificate, c.digests_of(certificate.base))
    html, out = tmp_path / "report.html", tmp_path / "result.txt"
    run = command(*words(certificate, "--report", f"html={html}", "-o", str(out)))
    assert run.returncode == 1
    assert run.stdout == ""
    for text in (run.stderr, html.read_text(), out.read_text()):
        assert "PASS" not in text
    for text in (html.read_text(), out.read_text()):
        assert "FAIL" in text
        assert "MV204" in text


def test_as_a_command_without_a_key_it_is_undecided(tiny_certificate: c.Certificate) -> None:
    arguments = [str(tiny_certificate.model), "--manifest", str(tiny_certificate.manifest), "--checks", "static"]
    run = command(*arguments)
    assert run.returncode == 3
    assert "UNDECIDED" in run.stdout
    assert "MV103" in run.stdout
    assert "PASS" not in run.stdout + run.stderr


def test_without_a_key_a_failure_still_wins(certificate: c.Certificate, capsys: pytest.CaptureFixture[str]) -> None:
    c.poke(certificate, *an_unmasked_value(certificate))
    with pytest.raises(SystemExit) as exited:
        main([str(certificate.model), "--manifest", str(certificate.manifest), "--checks", "static"])
    assert exited.value.code == 1
    assert "PASS" not in capsys.readouterr().out
