"""What lies near an attack and is none, and what only the user's pin can tell: one command, several answers."""

import json
from collections.abc import Callable
from pathlib import Path

import certificates as c
import pytest
from catalogue.mask import unmasked
from safetensors.torch import load_file, save_file
from scene import Scene

from verify.cli import main


class Answer:
    def __init__(self, code: object, output: str) -> None:
        self.code, self.result = code, json.loads(output)
        self.failed = {check["id"] for check in self.result["checks"] if check["status"] == "fail"}
        self.base = self.result["trust"]["base_digest"]


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.delenv("MANSU_KEY", raising=False)

    def run(made: c.Certificate, *extra: str, keyless: bool = False) -> Answer:
        key = [] if keyless else ["--key", str(made.keys.public)]
        words = [str(made.model), "--manifest", str(made.manifest), *key, "--checks", "static", *extra]
        with pytest.raises(SystemExit) as exited:
            main([*words, "--format", "json"])
        return Answer(exited.value.code, capsys.readouterr().out)

    return run


def test_a_report_beside_the_certificate_is_no_extra_file(certificate: c.Certificate, ask: Ask) -> None:
    (certificate.out / "report").mkdir()
    (certificate.out / "report" / "report.html").write_text("x")
    assert ask(certificate).code == 0


def test_a_change_hidden_in_a_falsified_base_is_seen_by_a_pin_alone(certificate: c.Certificate, ask: Ask) -> None:
    honest = c.digests_of(certificate.base)["model.safetensors"]
    c.poke(certificate, *unmasked(Scene(certificate, certificate.out)))
    c.sign(certificate, c.rebuilt_digests(certificate))
    unpinned = ask(certificate)
    assert (unpinned.code, unpinned.base) == (0, "claimed by the producer")
    for pin in (honest, f"model.safetensors={honest}"):
        answer = ask(certificate, "--base-digest", pin)
        assert (answer.code, answer.base, answer.failed) == (1, "not established", {"MV107"})


def test_a_pin_that_fits(tiny_certificate: c.Certificate, ask: Ask) -> None:
    honest = c.digests_of(tiny_certificate.base)["model.safetensors"]
    answer = ask(tiny_certificate, "--base-digest", honest)
    assert (answer.code, answer.base) == (0, "pinned by the user")


def test_no_pin_of_two_is_lost(tiny_certificate: c.Certificate, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """The last of two used to win: a wrong digest beside the right one was not looked at."""
    honest, other = c.digests_of(tiny_certificate.base)["model.safetensors"], "0" * 64
    named = [f"model.safetensors={honest}", f"model.safetensors={other}"]
    for first, second in ((other, honest), (honest, other), (named[0], named[1]), (named[1], named[0])):
        words = ["--base-digest", first, "--base-digest", second]
        with pytest.raises(SystemExit) as exited:
            main([str(tiny_certificate.model), "--manifest", str(tiny_certificate.manifest), *words])
        assert exited.value.code == 2
        assert "two digests" in capsys.readouterr().err
    for first, second in ((named[0], other), (other, named[0]), (named[1], honest), (honest, named[1])):
        answer = ask(tiny_certificate, "--base-digest", first, "--base-digest", second)
        assert (answer.code, answer.failed) == (1, {"MV107"})
    same = ask(tiny_certificate, "--base-digest", honest, "--base-digest", honest, "--base-digest", named[0])
    assert (same.code, same.base) == (0, "pinned by the user")


def test_a_pin_of_another_file_alone_does_not_pin_the_weights(tiny_certificate: c.Certificate, ask: Ask) -> None:
    config = c.digests_of(tiny_certificate.base)["config.json"]
    answer = ask(tiny_certificate, "--base-digest", f"config.json={config}")
    assert (answer.code, answer.base) == (0, "claimed by the producer")


def test_a_second_output_head_beside_the_tied_one_must_be_the_same(tiny_keys: c.Keys, tmp_path: Path, ask: Ask) -> None:
    """Some loaders would tie the head to the embedding, others take the stored one: another model for each."""
    base = c.save_base(c.random_model(), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    head = tensors["model.embed_tokens.weight"]
    for name, values, code in (("same", head.clone(), 0), ("other", head + 1, 1)):
        save_file({**tensors, "lm_head.weight": values}, base / "model.safetensors", metadata={"format": "pt"})
        answer = ask(c.make(base, tmp_path / name, tiny_keys, c.valid_edits(base)))
        assert answer.code == code
        assert ("MV106" in answer.failed) is (code == 1)


def test_without_a_key_a_failure_still_wins(certificate: c.Certificate, ask: Ask) -> None:
    assert ask(certificate, keyless=True).code == 3
    c.poke(certificate, *unmasked(Scene(certificate, certificate.out)))
    assert ask(certificate, keyless=True).code == 1


@pytest.mark.parametrize(
    ("change", "profiles", "code"),
    [
        ({"dtype": "float16"}, [{}, {"cast": "fp16"}], 0),
        ({"dtype": "float16"}, [{}, {"cast": "bf16"}], 1),
        ({"dtype": "float32"}, [{}], 0),
        ({"dtype": None, "torch_dtype": None}, [{}], 0),
        ({"torch_dtype": "bfloat16"}, [{}], 0),
        ({"attn_implementation": "sdpa"}, [{}], 0),
        ({"architectures": None}, [{}], 0),
    ],
)
def test_what_a_configuration_may_say(
    certificate: c.Certificate, ask: Ask, change: dict, profiles: list[dict], code: int
) -> None:
    """A dtype other than the stored one is a deployment of its own: it must be among those claimed (MV211)."""
    scene = Scene(certificate, certificate.out)
    scene.edit_json("model/config.json", lambda value: value.update(change))
    plain = scene.statement()["predicate"]["profiles"][0]
    scene.sign_as(lambda data: data["predicate"].update(profiles=[plain | profile for profile in profiles]))
    answer = ask(certificate)
    assert answer.failed == (set() if code == 0 else {"MV211"})
    assert answer.code == code
