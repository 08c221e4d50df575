"""The one pass over the weights: digests, base digests and rows as they are in memory, and nothing read unnoticed."""

import dataclasses
import hashlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import certificates as c
import pytest
import safetensors.torch
import torch

from verify.artefact import LedgerEntry, LedgerStream, open_regular, read_layout
from verify.artefact.ledger import base_digests
from verify.artefact.ledger import parse as parse_ledger
from verify.artefact.ledger import write as write_ledger
from verify.artefact.tensors import parse
from verify.checks import scan as s
from verify.checks.examiners import Plan, Scan
from verify.checks.scan import scan
from verify.errors import ArtefactError
from verify.nf4 import survival
from verify.nf4.rows import LARGEST_BLOCK, ROW_IDS, Geometry

GEOMETRY = Geometry(64)
MARGIN = 2.0**-7


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05).to(dtype)


def write(folder: Path, shards: dict[str, dict[str, torch.Tensor]], entries: dict[str, LedgerEntry]) -> None:
    for name, tensors in shards.items():
        safetensors.torch.save_file(tensors, folder / name, {"format": "pt"})
    (folder / "ledger.safetensors").write_bytes(write_ledger(entries))


def run(folder: Path, names: list[str], plan: Plan) -> Scan:
    with ExitStack() as stack:
        files = [stack.enter_context(open_regular(name, root=folder)) for name in names]
        layouts = [read_layout(file.read, file.size, name=file.name) for file in files]
        ledger = LedgerStream(stack.enter_context(open_regular("ledger.safetensors", root=folder)))
        seen: list[int] = []
        found = scan(list(zip(files, layouts, strict=True)), ledger, plan, progress=seen.append)
        assert sum(seen) == sum(file.size for file in files)
    return found


def plan(*names: str, transposed: tuple[str, ...] = (), compared: tuple[str, ...] = ()) -> Plan:
    return Plan(dict.fromkeys(names, (GEOMETRY,)), frozenset(transposed), frozenset(compared), MARGIN)


def edited(weight: torch.Tensor, count: int, seed: int = 0) -> tuple[torch.Tensor, LedgerEntry]:
    indices, values = c.valid_moves(weight)
    chosen = torch.randperm(indices.numel(), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    moved = weight.clone()
    moved.view(-1)[indices[chosen]] = values[chosen]
    return moved, LedgerEntry(indices[chosen], weight.reshape(-1)[indices[chosen]].clone())


@pytest.mark.parametrize("piece", [1 << 14, 1 << 23])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_digests_and_rows_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(s, "PIECE", piece)
    base = {"a": random((96, 192), 1, dtype), "b": random((300, 77), 2, dtype), "norm": random((192,), 3, dtype)}
    moved, entries = dict(base), {}
    for name in ("a", "b"):
        moved[name], entries[name] = edited(base[name], 40)
    shards = {"1.safetensors": {"norm": moved["norm"], "a": moved["a"]}, "2.safetensors": {"b": moved["b"]}}
    write(tmp_path, shards, entries)
    found = run(tmp_path, list(shards), plan("a", "b", compared=("norm",)))
    files = [parse((tmp_path / name).read_bytes(), name=name) for name in shards]
    assert found.sha256 == {file.name: file.sha256 for file in files}
    ledger = parse_ledger((tmp_path / "ledger.safetensors").read_bytes())
    assert found.base_sha256 == base_digests(files, ledger) != found.sha256
    assert found.tensor_sha256 == {"norm": hashlib.sha256(base["norm"].view(torch.uint8).numpy().tobytes()).hexdigest()}
    assert found.equal == found.not_finite == {}
    for name, entry in entries.items():
        rows = survival(base[name], moved[name], entry.indices, margin=MARGIN).rows
        assert found.tallies[name][GEOMETRY].satisfied == {row: int(rows[row].sum()) for row in ROW_IDS}
        assert all(bool(rows[row].all()) for row in ROW_IDS)


def test_a_transposed_weight_is_cut_as_it_is_deployed(tmp_path: Path) -> None:
    matrix = random((64, 128), 5)  # [out, in], as the quantizer sees it
    turned, entry = edited(matrix, 30)
    stored, base = turned.T.contiguous(), matrix.T.contiguous()
    flat = entry.indices % 128 * 64 + entry.indices // 128
    order = flat.argsort()
    write(tmp_path, {"m.safetensors": {"w": stored}}, {"w": LedgerEntry(flat[order], entry.base[order])})
    right = run(tmp_path, ["m.safetensors"], plan("w", transposed=("w",))).tallies["w"][GEOMETRY]
    assert right.satisfied == dict.fromkeys(ROW_IDS, 30)
    wrong = run(tmp_path, ["m.safetensors"], plan("w")).tallies["w"][GEOMETRY]
    assert wrong.satisfied != right.satisfied
    assert not torch.equal(base, stored)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("transposed", [(), ("a", "b")])
def test_scales_are_counted_as_they_are_in_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, transposed: tuple[str, ...]
) -> None:
    monkeypatch.setattr(s, "PIECE", 1 << 14)
    base = {"a": random((96, 192), 1, dtype), "b": random((300, 77), 2, dtype), "c": random((64, 64), 3, dtype)}
    holder = int(base["a"].abs().argmax())
    raised = base["a"].clone()
    raised.view(-1)[holder] *= 2  # the base's scale counts, not this one
    entry = LedgerEntry(torch.tensor([holder]), base["a"].reshape(-1)[[holder]])
    write(tmp_path, {"m.safetensors": {**base, "a": raised}}, {"a": entry})
    wanted = dataclasses.replace(plan("a", "b", "c", transposed=transposed), scaled={"a": 64, "b": 64})
    found = run(tmp_path, ["m.safetensors"], wanted)
    expected: dict[int, int] = {}
    for name in ("a", "b"):
        flat = (base[name].T.contiguous() if name in transposed else base[name]).reshape(-1)
        for block in flat.split(64):
            bits = block.abs().max().reshape(1).view(torch.uint8).numpy()[-2:].view("<u2")
            expected[int(bits[0])] = expected.get(int(bits[0]), 0) + block.numel()
    assert {int(at): int(found.scales[at]) for at in found.scales.nonzero()[0]} == expected
    assert found.squares == pytest.approx(float(base["a"].reshape(-1)[holder].double() ** 2))


def test_values_that_did_not_change_and_values_that_are_not_finite(tmp_path: Path) -> None:
    weight = random((64, 64), 1)
    weight[0, 3] = 0.0
    entry = LedgerEntry(torch.tensor([3, 9]), torch.tensor([-0.0, 1.0]).bfloat16())
    other = random((8, 8), 2)
    other[7, 1] = float("nan")
    write(tmp_path, {"m.safetensors": {"w": weight, "x": other}}, {"w": entry})
    found = run(tmp_path, ["m.safetensors"], plan("w"))
    assert found.equal == {"w": 1}, "minus zero is zero"
    assert found.not_finite == {"x": 57}


@pytest.mark.parametrize(
    ("entries", "check_id", "reason"),
    [
        ({"v": LedgerEntry(torch.tensor([0]), torch.zeros(1).bfloat16())}, "MV121", "names tensor"),
        ({"w": LedgerEntry(torch.tensor([0]), torch.zeros(1))}, "MV121", "dtype differs"),
        ({"w": LedgerEntry(torch.tensor([4096]), torch.zeros(1).bfloat16())}, "MV121", "out of range"),
        ({"w": LedgerEntry(torch.arange(4097), torch.zeros(4097).bfloat16())}, "MV121", "more values"),
    ],
)
def test_a_ledger_that_does_not_fit(
    tmp_path: Path, entries: dict[str, LedgerEntry], check_id: str, reason: str
) -> None:
    write(tmp_path, {"m.safetensors": {"w": random((64, 64), 1)}}, entries)
    with pytest.raises(ArtefactError, match=reason) as caught:
        run(tmp_path, ["m.safetensors"], plan("w"))
    assert caught.value.id == check_id


def test_a_ledger_that_changes_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    weight = random((64, 64), 1)
    moved, entry = edited(weight, 10)
    write(tmp_path, {"m.safetensors": {"w": moved}}, {"w": entry})
    path = tmp_path / "ledger.safetensors"
    with open_regular(path.name, root=tmp_path) as file:
        ledger = LedgerStream(file)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)  # the same file, as an open descriptor sees it
        with pytest.raises(ArtefactError, match="changed while it was read") as caught:
            ledger.changes("w")
    assert caught.value.id == "MV101"


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1]])
def test_weights_that_grow_or_shrink_are_refused(tmp_path: Path, change) -> None:  # noqa: ANN001
    weight = random((64, 64), 1)
    moved, entry = edited(weight, 10)
    write(tmp_path, {"m.safetensors": {"w": moved}}, {"w": entry})
    path = tmp_path / "m.safetensors"
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(path.name, root=tmp_path))
        layout = read_layout(file.read, file.size, name=file.name)
        ledger = LedgerStream(stack.enter_context(open_regular("ledger.safetensors", root=tmp_path)))
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ArtefactError, match="changed while it was read") as caught:
            scan([(file, layout)], ledger, plan("w"), progress=lambda _: None)
    assert caught.value.id == "MV101"


def test_pieces_are_whole_blocks_of_every_type() -> None:
    for size in (1, 2, 4, 8):
        assert s.PIECE // size % LARGEST_BLOCK == 0


def test_static_checks_load_neither_torch_nor_transformers(tiny_certificate: c.Certificate) -> None:
    program = (
        "import sys; from pathlib import Path; from verify.check import check\n"
        "model, manifest, key = map(Path, sys.argv[1:])\n"
        "result = check(model, manifest, keys=[key], level='static')\n"
        "print(result.verdict, sorted({'torch', 'transformers', 'z3'} & sys.modules.keys()))"
    )
    paths = (tiny_certificate.model, tiny_certificate.manifest, tiny_certificate.keys.public)
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "PASS []"
