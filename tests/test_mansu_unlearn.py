"""The engine's command on a tiny model: what it writes, and what it refuses without leaving anything behind."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console
from transformers import GPT2Config, GPT2LMHeadModel

from mansu.cli import main as mansu_command
from mansu.config import Config
from mansu.progress import Steps
from mansu.seal import sealing
from mansu.unlearn import Outcome, unlearn
from verify.artefact.signing import load_signer
from verify.check import check
from verify.contract.policy import Policy
from verify.errors import UsageError

QUICK = r.QUICK


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows the forget facts (in the wording of `certificates.prompt`)."""
    return c.save_base(t.trained_model(layers=4), tmp_path_factory.mktemp("knowing"))


def run(
    base: Path,
    folder: Path,
    keys: c.Keys,
    *,
    forget: list[r.Line] | None = None,
    retain: list[r.Line] | None = None,
    config: Config = QUICK,
    policy_sha256: str | None = None,
    supersedes: Path | None = None,
    frontier: bool = False,
) -> Outcome:
    return unlearn(
        base,
        r.write(folder / "forget.jsonl", r.forget_lines() if forget is None else forget),
        r.write(folder / "retain.jsonl", r.retain_lines() if retain is None else retain),
        load_signer(keys.private),
        folder / "out",
        config,
        steps=Steps(Console(quiet=True)),
        policy_sha256=policy_sha256,
        supersedes=supersedes,
        frontier=frontier,
    )


def known_facts() -> list[r.Line]:
    """The wordings that the tiny model was trained on."""
    return [
        {"prompt": frame(name), "answer": c.capital(i), "group": "capitals", "fact": f"capital:{name}"}
        for i, name in enumerate(c.COUNTRIES)
        for frame in (lambda n: c.prompt("capital", n), c.held_out_wording)
    ]


def leftovers(folder: Path) -> list[str]:
    return [name for name in (path.name for path in folder.iterdir()) if name not in {"forget.jsonl", "retain.jsonl"}]


@pytest.mark.parametrize("shards", ["1GB", "150KB"])
def test_writes_a_certificate_whose_static_checks_hold(tmp_path: Path, tiny_keys: c.Keys, shards: str) -> None:
    base = c.save_base(t.trained_model(layers=4), tmp_path / "base", shard_size=shards)
    policy = Policy(pre_registered=True, maximum_age_days=1)
    outcome = run(base, tmp_path, tiny_keys, forget=known_facts(), policy_sha256=policy.sha256())
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "ledger.safetensors",
        "m.json",
        "model",
        "model.sig",
        "probes",
    ]
    found = check(out / "model", out / "m.json", keys=[tiny_keys.public], level="static", policy=policy)
    assert found.verdict == "PASS", found.headline
    assert found.pre_registration == "to this policy"
    assert found.permanence[0].masked == outcome.changed > 0
    assert all(row.violated == 0 for row in found.permanence[0].rows)
    others = [p for p in base.iterdir() if p.suffix != ".safetensors"]
    assert all((out / "model" / p.name).read_bytes() == p.read_bytes() for p in others)
    sizes = {p.name: p.stat().st_size for p in base.iterdir()}
    assert {p.name: p.stat().st_size for p in (out / "model").iterdir()} == sizes


def test_a_policy_tells_a_certificate_from_the_one_that_it_supersedes(
    knowing: Path, tmp_path: Path, tiny_keys: c.Keys
) -> None:
    run(knowing, tmp_path, tiny_keys, forget=known_facts())
    (tmp_path / "next").mkdir()
    run(knowing, tmp_path / "next", tiny_keys, forget=known_facts(), supersedes=tmp_path / "out" / "m.json")
    latest = Policy(minimum_sequence=2)
    for out, failed in ((tmp_path / "out", ["MV505"]), (tmp_path / "next" / "out", [])):
        found = check(out / "model", out / "m.json", keys=[tiny_keys.public], level="static", policy=latest)
        assert [entry.id for entry in found.checks if entry.status == "fail"] == failed


def test_what_cannot_be_superseded_is_told_before_the_work(tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys) -> None:
    with pytest.raises(UsageError) as refused:
        run(tiny_base, tmp_path, tiny_keys, supersedes=tmp_path / "absent.json")
    assert refused.value.id == "ME221"
    assert leftovers(tmp_path) == []


def test_the_frontier_is_traced_and_all_that_it_tries_leaves_a_valid_edit(
    knowing: Path, tmp_path: Path, tiny_keys: c.Keys
) -> None:
    finish = {"error_compensation": True, "swap_rounds": 1, "polish_rounds": 1, "minimal_trials": 3}
    easy = QUICK.model_copy(update={"forget_target": 1.0, **finish})
    outcome = run(knowing, tmp_path, tiny_keys, forget=known_facts(), config=easy, frontier=True)
    found = check(tmp_path / "out" / "model", tmp_path / "out" / "m.json", keys=[tiny_keys.public], level="static")
    assert found.verdict == "PASS", found.headline
    assert outcome.frontier is not None
    points = outcome.frontier.points
    assert {point.phase for point in points} == {"snap", "exchange", "minimal", "trace"}
    assert all(point.forget_nf4 is not None and point.retain_nats is not None for point in points)
    assert [point.changed for point in points if point.kept][-1] == outcome.changed == found.permanence[0].masked
    traced = [point for point in points if point.phase == "trace"]
    assert traced[-1].changed == 0
    assert traced[-1].retain_nats == pytest.approx(0, abs=1e-3)
    assert max(point.forget for point in points) == traced[-1].forget, "the base knows most"
    assert all(point.share == point.changed / outcome.parameters for point in points)


def test_the_steps_of_the_finish_are_switches_that_are_off(knowing: Path, tmp_path: Path, tiny_keys: c.Keys) -> None:
    outcome = run(knowing, tmp_path, tiny_keys, forget=known_facts())
    assert outcome.frontier is not None
    assert {point.phase for point in outcome.frontier.points} == {"snap"}


def test_the_command_commits_to_a_policy_file_or_refuses_it(
    tmp_path: Path, tiny_keys: c.Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = []

    def stand_in(
        *_: object, policy_sha256: str | None, frontier: bool, supersedes: Path | None, **__: object
    ) -> Outcome:
        committed.append(policy_sha256)
        assert not frontier
        assert supersedes is None
        return Outcome(tmp_path, 1, 2, 0.0, 0.0, 0.1)

    monkeypatch.setattr("mansu.unlearn.unlearn", stand_in)
    path = tmp_path / "policy.toml"
    words = ["mansu", "unlearn", "--key", str(tiny_keys.private)]
    words += [w for option in ("model", "forget", "retain", "out") for w in (f"--{option}", str(tmp_path / option))]
    for text, code, digests in (
        ("level = 'full'", 0, [Policy(level="full").sha256()]),
        ("levels = 'full'", 2, []),
        (None, 0, [None]),
    ):
        committed.clear()
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(sys, "argv", [*words, *([] if text is None else ["--policy", str(path)])])
        with pytest.raises(SystemExit) as exited:
            mansu_command()
        assert (exited.value.code, committed) == (code, digests)


def test_an_unknown_forget_set_is_nothing_to_forget(tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys) -> None:
    with pytest.raises(UsageError, match="nothing to forget") as caught:
        run(tiny_base, tmp_path, tiny_keys)
    assert caught.value.id == "ME211"
    assert leftovers(tmp_path) == []


def test_an_answer_without_tokens_is_refused(tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys) -> None:
    with pytest.raises(UsageError, match="tokenizes to nothing") as caught:
        run(tiny_base, tmp_path, tiny_keys, forget=[{"prompt": "the capital of country1 is", "answer": "  "}])
    assert caught.value.id == "ME204"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_that_no_other_could_win_is_refused(
    tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys, *, kept: bool
) -> None:
    alone: list[r.Line] = [
        {"prompt": f"the capital of country{i} is", "answer": c.capital(1), "fact": f"capital:{i}"} for i in range(8)
    ]
    others: list[r.Line] = [{"prompt": f"the flag of country{i} is", "answer": c.capital(i)} for i in range(8)]
    forget, retain = (others, alone) if kept else (alone, others)
    with pytest.raises(UsageError, match="nothing to be told from") as caught:
        run(tiny_base, tmp_path, tiny_keys, forget=forget, retain=retain)
    assert caught.value.id == "ME214"
    assert f"{c.capital(1)!r} after 'the capital of country" in caught.value.found
    assert leftovers(tmp_path) == []


def _no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickle(folder: Path) -> None:
    _no_safetensors(folder)
    torch.save({}, folder / "pytorch_model.bin")


def _gpt2(folder: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=64)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(_no_safetensors, "no safetensors"), (_pickle, "pickle"), (_gpt2, "GPT2|supported|architecture")],
)
def test_unusable_model_folders_are_refused(tmp_path: Path, tiny_keys: c.Keys, damage: object, message: str) -> None:
    base = c.save_base(c.random_model(), tmp_path / "base")
    damage(base)  # type: ignore[operator]
    (tmp_path / "work").mkdir()
    with pytest.raises(UsageError, match=message) as caught:
        run(base, tmp_path / "work", tiny_keys)
    assert caught.value.exit_code == 2
    assert leftovers(tmp_path / "work") == []


def test_a_folder_that_exists_is_never_overwritten(tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="output folder exists"):
        run(tiny_base, tmp_path, tiny_keys)


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, knowing: Path, tiny_keys: c.Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sealing, "write_ledger", full)
    with pytest.raises(UsageError, match="could not be written") as caught:
        run(knowing, tmp_path, tiny_keys, forget=known_facts())
    assert "No space left" in caught.value.found
    assert leftovers(tmp_path) == []


def test_interrupted_in_the_middle_leaves_nothing_behind(tmp_path: Path, knowing: Path, tiny_keys: c.Keys) -> None:
    r.write(tmp_path / "forget.jsonl", known_facts())
    r.write(tmp_path / "retain.jsonl", r.retain_lines())
    arguments = ["--model", knowing, "--forget", tmp_path / "forget.jsonl", "--retain", tmp_path / "retain.jsonl"]
    arguments += ["--key", tiny_keys.private, "--out", tmp_path / "out"]
    words = [sys.executable, "-m", "mansu.cli", "unlearn", *map(str, arguments)]
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  (no thread runs here)
    )
    deadline = time.monotonic() + 120
    while not any(path.suffix == ".partial" for path in tmp_path.iterdir()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert leftovers(tmp_path) == []


def test_commands_document_themselves_and_exit_as_promised(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "mansu.cli", "keygen", "--out", tmp_path / "k"], capture_output=True, check=True
    )
    assert b"public.pem" in made.stdout
    assert (tmp_path / "k" / "private.pem").stat().st_mode & 0o777 == 0o600
    digest = hashlib.sha256((tmp_path / "k" / "private.pem").read_bytes()).hexdigest()
    again = subprocess.run(
        [sys.executable, "-m", "mansu.cli", "keygen", "--out", tmp_path / "k"], capture_output=True, check=False
    )
    assert again.returncode == 2
    assert hashlib.sha256((tmp_path / "k" / "private.pem").read_bytes()).hexdigest() == digest
