"""`mansu patch`: export, apply and revert come back byte for byte, and nothing that does not fit is ever written."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import certificates as c
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mansu.cli
from mansu import patch
from mansu.patch import rebuild, rewriting
from mansu.patch.signed import open_signed
from verify.artefact import oms, walk
from verify.artefact.signing import load_signer
from verify.check import check
from verify.errors import ArtefactError, UsageError


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in walk(folder)}


@pytest.fixture(scope="module")
def sharded(tiny_keys: c.Keys, tmp_path_factory: pytest.TempPathFactory) -> c.Certificate:
    base = c.save_base(c.random_model(2), tmp_path_factory.mktemp("shards"), shard_size="80KB")
    return c.make(base, tmp_path_factory.mktemp("sharded") / "out", tiny_keys, c.valid_edits(base, tensors=9))


@pytest.fixture(scope="module")
def exported(tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("patch") / "p"
    patch.export(tiny_certificate.out, out)
    return out


@pytest.mark.parametrize("which", ["single", "sharded"])
def test_a_round_trip_gives_back_every_byte(
    which: str, tiny_certificate: c.Certificate, sharded: c.Certificate, tmp_path: Path
) -> None:
    made = tiny_certificate if which == "single" else sharded
    keys = [made.keys.public]
    signature = oms.sign("model", c.digests_of(made.out / "model"), load_signer(made.keys.private))
    out = made.copied_to(tmp_path / "out").out
    (out / "model.sig").write_bytes(signature)
    patch.export(out, tmp_path / "p", keys)
    assert not any(name.startswith("model/") for name in walk(tmp_path / "p"))
    outcome = patch.apply(tmp_path / "p", made.base, tmp_path / "again", keys)
    assert content(tmp_path / "again") == content(out)
    assert outcome.size == sum(map(len, content(out).values()))
    result = check(tmp_path / "again" / "model", tmp_path / "again" / "m.json", keys=keys, level="static")
    assert result.verdict == "PASS"
    patch.revert(tmp_path / "again", tmp_path / "base", keys)
    assert content(tmp_path / "base") == content(made.base)
    patch.export(tmp_path / "again", tmp_path / "p2")
    assert content(tmp_path / "p2") == content(tmp_path / "p")


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_edit_of_any_tensor_survives(
    data: st.DataObject, tiny_base: Path, tiny_keys: c.Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A patch does not ask what was edited or why: any values of any weights, the first and the last of a file too."""
    weights = c.linear_weights(tiny_base)
    edits = {}
    for name in data.draw(st.sets(st.sampled_from(sorted(weights)), min_size=1, max_size=4)):
        count = weights[name].numel()
        places = st.integers(0, count - 1) | st.sampled_from([0, count - 1])
        indices = torch.tensor(sorted(data.draw(st.sets(places, min_size=1, max_size=6))))
        edits[name] = (indices, -weights[name].reshape(-1)[indices] - 1)
    folder = tmp_path_factory.mktemp("any")
    made = c.make(tiny_base, folder / "out", tiny_keys, edits)
    patch.export(made.out, folder / "p")
    patch.apply(folder / "p", tiny_base, folder / "again")
    patch.revert(made.out, folder / "base")
    assert content(folder / "again") == content(made.out)
    assert content(folder / "base") == content(tiny_base)


def test_pieces_of_any_size_give_the_same_file(
    tiny_certificate: c.Certificate, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (1022, 1 << 13):
        monkeypatch.setattr(rewriting, "_PIECE", size)
        patch.apply(exported, tiny_certificate.base, tmp_path / str(size))
        assert content(tmp_path / str(size)) == content(tiny_certificate.out)


def refused(error_id: str, call: Callable[[], object], out: Path) -> UsageError:
    with pytest.raises((UsageError, ArtefactError)) as caught:
        call()
    assert caught.value.id == error_id, caught.value.diagnostic()
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")] == []
    return caught.value


def test_another_base_is_named_before_anything_is_written(
    exported: Path, tiny_certificate: c.Certificate, sharded: c.Certificate, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_certificate.base, tmp_path / "other"))
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    out = tmp_path / "out"
    error = refused("ME302", lambda: patch.apply(exported, other, out), out)
    assert "model.safetensors" in error.message
    refused("ME302", lambda: patch.apply(exported, sharded.base, out), out)
    refused("ME302", lambda: patch.apply(exported, tmp_path / "nowhere", out), out)
    refused("ME302", lambda: patch.apply(exported, tiny_certificate.out / "model", out), out)


def test_a_manifest_swapped_after_its_signature_was_checked_is_not_written_on(
    exported: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "p"))
    signed = open_signed(folder, [tiny_certificate.keys.public])
    checked = (folder / "m.json").read_bytes()
    (folder / "m.json").write_bytes(b"another")
    (tmp_path / "out").mkdir()
    rebuild._copy_rest(folder, tmp_path / "out", signed)
    assert (tmp_path / "out" / "m.json").read_bytes() == checked


SPOILED = {
    "an edited value": ("edited.safetensors", "ME303"),
    "the ledger": ("ledger.safetensors", "ME303"),
    "a probe": ("probes/choices.jsonl", "ME303"),
    "the manifest": ("m.json", "MV102"),
}


@pytest.mark.parametrize(("name", "error_id"), SPOILED.values(), ids=SPOILED)
def test_a_flipped_bit_is_refused(
    name: str, error_id: str, exported: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "p"))
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    out = tmp_path / "out"
    refused(error_id, lambda: patch.apply(folder, tiny_certificate.base, out), out)


@pytest.mark.parametrize(
    ("name", "error_id"),
    [
        ("m.json", "ME301"),
        ("ledger.safetensors", "MV101"),
        ("edited.safetensors", "MV101"),
        ("probes/pools.json", "MV101"),
    ],
)
def test_a_part_that_is_missing_is_named(
    name: str, error_id: str, exported: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "p"))
    (folder / name).unlink()
    out = tmp_path / "out"
    refused(error_id, lambda: patch.apply(folder, tiny_certificate.base, out), out)


def test_the_edited_values_must_be_those_of_this_ledger(
    exported: Path, sharded: c.Certificate, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    folder, out = Path(shutil.copytree(exported, tmp_path / "p")), tmp_path / "out"
    for source in (tiny_certificate.ledger, tiny_certificate.base / "model.safetensors"):
        shutil.copy(source, folder / "edited.safetensors")
        refused("ME301", lambda: patch.apply(folder, tiny_certificate.base, out), out)
    patch.export(sharded.out, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "edited.safetensors", folder / "edited.safetensors")
    refused("ME301", lambda: patch.apply(folder, tiny_certificate.base, out), out)


def test_a_damaged_certificate_is_neither_exported_nor_reverted(certificate: c.Certificate, tmp_path: Path) -> None:
    out = tmp_path / "p"
    norm = "model.norm.weight"
    c.poke(certificate, norm, 0, c.value_at(certificate, norm, 0) + 1)
    refused("ME303", lambda: patch.export(certificate.out, out), out)
    refused("ME303", lambda: patch.revert(certificate.out, out), out)


def test_an_undeclared_change_cannot_be_shipped(certificate: c.Certificate, tmp_path: Path) -> None:
    """A dishonest producer signs a model that differs from its base by more than the ledger says."""
    norm = "model.norm.weight"
    c.poke(certificate, norm, 0, c.value_at(certificate, norm, 0) + 1)
    c.sign(certificate, c.digests_of(certificate.base))
    refused("ME303", lambda: patch.export(certificate.out, tmp_path / "p"), tmp_path / "p")


def test_a_manifest_that_adds_a_file_to_the_model_is_of_no_patch(certificate: c.Certificate, tmp_path: Path) -> None:
    (certificate.out / "model" / "modeling.py").write_text("raise SystemExit")
    c.sign(certificate, c.digests_of(certificate.base))
    error = refused("ME301", lambda: patch.export(certificate.out, tmp_path / "p"), tmp_path / "p")
    assert "modeling.py" in error.found


def test_a_name_that_leaves_the_folder_is_refused(certificate: c.Certificate, tmp_path: Path) -> None:
    def escape(statement: dict) -> None:
        statement["predicate"]["base"]["files"].append({"name": "../x", "sha256": c.ZERO})

    c.sign(certificate, c.digests_of(certificate.base), change=escape)
    refused("ME301", lambda: patch.revert(certificate.out, tmp_path / "b"), tmp_path / "b")


def test_the_signature_counts_only_where_a_key_is_given(
    exported: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    base, keys = tiny_certificate.base, tiny_certificate.keys
    stranger = c.make_keys(tmp_path / "stranger")
    refused("MV103", lambda: patch.apply(exported, base, tmp_path / "o", [stranger.public]), tmp_path / "o")
    plain = patch.apply(exported, base, tmp_path / "plain")
    assert plain.signer is None
    assert "NOT CHECKED" in plain.summary("certificate")
    vouched = patch.apply(exported, base, tmp_path / "vouched", [stranger.public, keys.public])
    assert vouched.signer is not None
    assert vouched.signer in vouched.summary("certificate")


def failure_of(call: Callable[[], object]) -> UsageError | None:
    try:
        call()
    except UsageError as error:
        return error
    return None


@pytest.mark.parametrize("command", ["export", "apply", "revert"])
def test_a_full_disk_leaves_nothing(
    command: str,
    exported: Path,
    tiny_certificate: c.Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every write to the disk fails in turn, as it does where the disk is full."""
    out = tmp_path / "out"
    calls = {
        "export": lambda: patch.export(tiny_certificate.out, out),
        "apply": lambda: patch.apply(exported, tiny_certificate.base, out),
        "revert": lambda: patch.revert(tiny_certificate.out, out),
    }
    sync = os.fsync
    for number in range(100):
        left = [number]

        def full(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        error = failure_of(calls[command])
        if error is None:
            break
        assert error.id in {"ME200", "ME220"}
        assert "No space left" in error.found + error.message
        if out.exists():  # only the last step, which has its name on the disk, comes after the renaming
            assert "is whole" in error.message
            break
        assert list(tmp_path.iterdir()) == []
    assert number > 3
    assert out.exists()


def test_an_output_that_exists_is_never_touched(
    exported: Path, tiny_certificate: c.Certificate, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    for call in (
        lambda: patch.export(tiny_certificate.out, out),
        lambda: patch.apply(exported, tiny_certificate.base, out),
        lambda: patch.revert(tiny_certificate.out, out),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.id == "ME220"
        assert content(out) == {"mine": b"x"}


def test_the_commands(
    tiny_certificate: c.Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["mansu", "patch", *map(str, words)])
        with pytest.raises(SystemExit) as exited:
            mansu.cli.main()
        captured = capsys.readouterr()
        return exited.value.code, captured.out + captured.err

    key = ("--key", tiny_certificate.keys.public)
    p, again, base = tmp_path / "p", tmp_path / "again", tmp_path / "base"
    code, said = run("export", tiny_certificate.out, "--out", p, *key)
    assert (code, "24 edited values" in said, "signature: valid" in said) == (0, True, True)
    code, said = run("apply", p, "--base", tiny_certificate.base, "--out", again)
    assert (code, "NOT CHECKED" in said, f"mansu-verify {again / 'model'}" in said) == (0, True, True)
    assert run("revert", again, "--out", base, *key)[0] == 0
    assert content(base) == content(tiny_certificate.base)
    code, said = run("apply", p, "--base", again / "model", "--out", tmp_path / "no")
    assert (code, "ME302" in said) == (2, True)
