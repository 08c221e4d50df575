"""Attacks that need a hand inside the verifier, and the limits of its numbers; the others are in the catalogue."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import certificates as c
import numpy as np
import pytest
import rfc8785
import torch

from verify.artefact import OpenFile, load_private, read_unverified
from verify.artefact.bundle import pack
from verify.check import check
from verify.checks import evidence, integrity, runs
from verify.checks.certificate import Certificate, load
from verify.cli import main
from verify.contract.manifest import PAYLOAD_TYPE
from verify.contract.result import Result
from verify.nf4.dynamic import deployed_bounds
from verify.nf4.rows import Geometry
from verify.nf4.stream import TensorStream, _bin

PLAIN = {"quant_type": "nf4", "block_size": 64, "double_quant": False, "cast": "none", "skip": None}


def run(made: c.Certificate) -> Result:
    return check(made.out / "model", made.manifest, keys=[made.keys.public], level="static")


def failed(made: c.Certificate) -> set[str]:
    result = run(made)
    ids = {entry.id for entry in result.checks if entry.status == "fail"}
    assert (result.verdict == "FAIL") is bool(ids)
    return ids


def found(made: c.Certificate, check_id: str) -> str:
    return next(entry.found for entry in run(made).checks if entry.id == check_id)


def sign_anything(made: c.Certificate, change: Callable[[dict], None]) -> None:
    """Sign a statement that the contract's own models would not let through."""
    data = read_unverified(made.manifest.read_bytes()).model_dump(mode="json", by_alias=True)
    change(data)
    made.manifest.write_bytes(pack(rfc8785.dumps(data), PAYLOAD_TYPE, load_private(made.keys.private)))


def claim(made: c.Certificate, *profiles: dict[str, object]) -> None:
    listed = [{**PLAIN, **profile} for profile in profiles]
    sign_anything(made, lambda data: data["predicate"].update(profiles=listed))


# --- what is claimed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "covered"),
    [({"cast": "fp16"}, False), ({"skip": []}, False), ({"cast": "bf16"}, True), ({"double_quant": True}, True)],
)
def test_the_usual_deployment_is_the_weights_as_stored_with_nothing_skipped(
    certificate: c.Certificate, profile: dict[str, object], covered: bool
) -> None:
    claim(certificate, profile)
    assert failed(certificate) == (set() if covered else {"MV211"})


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 5000 + ")" * 5000, "(.+)+(.+)+(.+)+!", "", "a\nb"])
def test_modules_to_skip_are_names(certificate: c.Certificate, pattern: str) -> None:
    """transformers takes them as regular expressions: some crash, and some never end."""
    claim(certificate, {}, {"skip": [pattern]})
    assert failed(certificate) == {"MV102"}


# --- files ------------------------------------------------------------------------------------------------------------


def test_many_files_that_fill_the_memory_together(certificate: c.Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [path.stat().st_size for path in (certificate.out / "model").glob("*.json")]
    monkeypatch.setattr(evidence, "LARGEST_SMALL_FILES", sum(sizes) - 1)
    assert max(sizes) < sum(sizes) - 1
    assert failed(certificate) == {"MV101"}


def swapped(data: bytes) -> bytes:
    """Return a header in which two tensors of one shape have changed places."""
    one, other = (f"model.layers.{layer}.mlp.gate_proj.weight".encode() for layer in (0, 1))
    return data.replace(one, b"@" * 99).replace(other, one).replace(b"@" * 99, other)


@pytest.mark.parametrize("path", ["model/model.safetensors", "ledger.safetensors"])
def test_a_header_that_changes_between_parsing_and_hashing(
    certificate: c.Certificate, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """What is signed edits another tensor than it declares; only the header that is parsed tells it as it should be."""
    edited, base = certificate.out / path, c.digests_of(certificate.base)
    edited.write_bytes(swapped(edited.read_bytes()))
    if path.startswith("model/"):
        base["model.safetensors"] = hashlib.sha256(swapped((certificate.base / edited.name).read_bytes())).hexdigest()
    honest = read_unverified(certificate.manifest.read_bytes()).model_dump(mode="json", by_alias=True)
    honest = honest["predicate"]["mask"]["tensors"]
    c.sign(certificate, base, change=lambda data: data["predicate"]["mask"].update(tensors=honest))
    assert failed(certificate)
    read, reads = OpenFile.read, []

    def raced(self: OpenFile, start: int, stop: int) -> bytes:
        data = read(self, start, stop)
        if self.name == edited.name:
            reads.append(start)
        return swapped(data) if self.name == edited.name and len(reads) < 3 else data

    monkeypatch.setattr(OpenFile, "read", raced)
    assert "MV105" in failed(certificate)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_tensor_that_nobody_masked_overflows_in_a_cast_that_is_claimed(tiny_keys: c.Keys, tmp_path: Path) -> None:
    model = c.random_model()
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    base = c.save_base(model, tmp_path / "base")
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base))
    assert not failed(made)
    claim(made, {}, {"cast": "fp16"})
    assert failed(made) == {"MV201"}
    assert "model.norm.weight" in found(made, "MV201")


@pytest.mark.parametrize("double", [False, True])
def test_what_a_cast_makes_infinite_is_no_index(double: bool) -> None:
    """Infinity less infinity is no number, and no number, as an index, lies outside every array."""
    bits = np.full(4096, 0x3C00, np.uint16)  # bfloat16
    base = bits.copy()
    indices = np.array([5, 77])
    bits[indices], base[indices] = 0x4974, 0x4A00  # 1e6 and 2e6
    geometry = Geometry(64, double, "fp16")
    stream = TensorStream("BF16", bits.size, indices, base[indices], [geometry])
    stream.feed(0, bits)
    stream.feed_base(0, base)
    tally = stream.finish(margin=c.MARGIN)[geometry]
    assert tally.overflow
    assert set(tally.satisfied.values()) == {0}


def test_no_number_falls_into_a_bin_of_its_own() -> None:
    assert [_bin(value, 11) for value in (np.nan, -np.inf, -1.0, 0.5, 10.9, 11.0, np.inf)] == [0, 0, 0, 0, 10, 11, 11]
    absmax = np.array([1.0, np.inf, 0.5], np.float32)
    low, high = deployed_bounds(absmax, np.arange(3))
    assert not (np.isfinite(low) & np.isfinite(high)).any()


# --- files of any size that appear late -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model/model.safetensors", "ledger.safetensors"])
def test_a_giant_put_in_place_after_the_examination_is_not_read(
    certificate: c.Certificate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def late(found: evidence.Evidence) -> Certificate:
        os.truncate(certificate.out / name, 1 << 40)
        return load(found)

    monkeypatch.setattr(runs, "load", late)
    result = check(certificate.out / "model", certificate.manifest, keys=[certificate.keys.public])
    assert {entry.id for entry in result.checks if entry.status == "fail"} == {"MV101"}


def test_a_giant_manifest_is_not_shown(certificate: c.Certificate, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(certificate.manifest, 1 << 40)
    with pytest.raises(SystemExit) as exited:
        main(["--show", "--manifest", str(certificate.manifest)])
    assert exited.value.code == 1
    assert "too large" in capsys.readouterr().err


def test_giant_weights_of_a_stranger_are_not_read(
    certificate: c.Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused anyway, and a file of holes could have any size; what is signed by a trusted key is read."""
    monkeypatch.setattr(integrity, "LARGEST_COMPARED", 10_000)
    monkeypatch.setattr(evidence, "LARGEST_COMPARED", 10_000)
    assert run(certificate).verdict == "PASS"
    monkeypatch.setattr(integrity, "scan", None)
    stranger = c.make_keys(tmp_path / "stranger").public
    result = check(certificate.out / "model", certificate.manifest, keys=[stranger], level="static")
    assert {entry.id for entry in result.checks if entry.status == "fail"} == {"MV103"}
    assert result.verdict == "FAIL"
