import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.artefact import ledger, ledger_format, tensors
from verify.artefact.ledger import LedgerEntry
from verify.artefact.torch_tensors import DTYPES, overwrite
from verify.errors import ArtefactError

torch.set_num_threads(1)
GOLDEN = Path(__file__).parent / "golden" / "ledger.safetensors"
ENTRIES = {
    "model.layers.0.mlp.up_proj.weight": LedgerEntry(
        torch.tensor([0, 5, 4_294_967_296]), torch.tensor([1.0, -2.0, 0.5]).bfloat16()
    ),
    "a": LedgerEntry(torch.tensor([7]), torch.tensor([0.25])),
}


def test_golden() -> None:
    assert ledger.write(ENTRIES) == GOLDEN.read_bytes()
    read = ledger.parse(GOLDEN.read_bytes())
    assert read.sha256 == hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    assert read.masked == 4
    assert read.entries["model.layers.0.mlp.up_proj.weight"].indices.tolist() == [0, 5, 4_294_967_296]
    assert read.entries["a"].base.tolist() == [0.25]


def test_the_library_reads_it() -> None:
    loaded = safetensors.torch.load(GOLDEN.read_bytes())
    assert loaded["model.layers.0.mlp.up_proj.weight.base"].tolist() == [1.0, -2.0, 0.5]
    assert loaded["a.indices"].tolist() == [7]


def test_order_of_entries_does_not_matter() -> None:
    assert ledger.write(dict(reversed(ENTRIES.items()))) == ledger.write(ENTRIES)


def test_a_tensor_may_be_named_like_a_ledger_key() -> None:
    entries = dict.fromkeys(("a", "a.indices", "a.base"), ENTRIES["a"])
    assert ledger.parse(ledger.write(entries)).entries.keys() == entries.keys()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_restore_undoes_the_edit_byte_for_byte(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([DTYPES[name] for name in ledger_format.INFINITY]))
    weights = {"w": torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).to(dtype), "v": torch.arange(3)}
    base = safetensors.torch.save(weights, {"format": "pt"})
    file = tensors.parse(base, name="model.safetensors")
    indices = torch.tensor(sorted(data.draw(st.sets(st.integers(0, 23), min_size=1))))
    edited = bytearray(base)
    overwrite(edited, file, "w", indices, torch.full((len(indices),), 9.0).to(dtype))
    assert edited != base
    written = ledger.write({"w": LedgerEntry(indices, weights["w"].flatten()[indices])})
    edited_file = tensors.parse(bytes(edited), name="model.safetensors")
    restored = ledger.restore(edited_file, ledger.parse(written))
    assert restored == base
    digests = ledger.base_digests([edited_file], ledger.parse(written))
    assert digests == {"model.safetensors": hashlib.sha256(base).hexdigest()}


def test_one_ledger_covers_all_shards() -> None:
    base = [safetensors.torch.save({name: torch.arange(4.0)}) for name in "wxy"]
    files = [tensors.parse(data, name=f"{number}.safetensors") for number, data in enumerate(base)]
    entries, edited = {}, []
    for file, name in zip(files, "wx", strict=False):
        buffer = bytearray(file.data)
        overwrite(buffer, file, name, torch.tensor([1]), torch.tensor([5.0]))
        edited.append(tensors.parse(bytes(buffer), name=file.name))
        entries[name] = LedgerEntry(torch.tensor([1]), torch.tensor([1.0]))
    edited.append(files[2])
    whole = ledger.parse(ledger.write(entries))
    assert [list(part.entries) for part in ledger.split(whole, edited)] == [["w"], ["x"], []]
    assert list(ledger.base_digests(edited, whole).values()) == [hashlib.sha256(data).hexdigest() for data in base]


INDEX, VALUE = torch.tensor([1, 2]), torch.tensor([1.0, 2.0])
FORMAT = {"format": ledger_format.FORMAT}


@pytest.mark.parametrize(
    ("indices", "base", "reason"),
    [
        (torch.tensor([2, 1]), VALUE, "not strictly ascending"),
        (torch.tensor([1, 1]), VALUE, "not strictly ascending"),
        (torch.tensor([-1, 1]), VALUE, "negative index"),
        (INDEX, torch.tensor([1.0, float("nan")]), "NaN or infinite"),
        (INDEX, torch.tensor([1.0, float("-inf")]).bfloat16(), "NaN or infinite"),
        (INDEX, torch.tensor([1.0]), "lengths differ"),
        (INDEX[:0], VALUE[:0], "without a change"),
        (INDEX.int(), VALUE, "indices"),
        (INDEX[None], VALUE, "indices"),
        (INDEX, VALUE.int(), "base values"),
        (INDEX, VALUE.to(torch.float8_e4m3fn), "base values"),
        (INDEX, VALUE[None], "base values"),
    ],
)
def test_unsound_entries_are_neither_read_nor_written(indices: torch.Tensor, base: torch.Tensor, reason: str) -> None:
    data = safetensors.torch.save({"w.indices": indices, "w.base": base}, FORMAT)
    for attempt in (lambda: ledger.parse(data), lambda: ledger.write({"w": LedgerEntry(indices, base)})):
        with pytest.raises(ArtefactError, match=reason) as caught:
            attempt()
        assert caught.value.id == "MV120"


@pytest.mark.parametrize(
    ("content", "metadata", "reason"),
    [
        ({"w.indices": INDEX, "w.base": VALUE}, None, "metadata"),
        ({"w.indices": INDEX, "w.base": VALUE}, {"format": "mansu-ledger/v2"}, "metadata"),
        ({"w.indices": INDEX, "w.base": VALUE}, FORMAT | {"x": "y"}, "metadata"),
        ({"w.indices": INDEX, "w.base": VALUE, "w.new": VALUE.clone()}, FORMAT, "unknown key"),
        ({".indices": INDEX, ".base": VALUE}, FORMAT, "unknown key"),
        ({"w.indices": INDEX}, FORMAT, "no partner"),
        ({"w.base": VALUE}, FORMAT, "no partner"),
        ({}, FORMAT, "no change"),
    ],
)
def test_malformed_ledgers(content: dict[str, torch.Tensor], metadata: dict[str, str] | None, reason: str) -> None:
    with pytest.raises(ArtefactError, match=reason) as caught:
        ledger.parse(safetensors.torch.save(content, metadata))
    assert caught.value.id == "MV120"


def test_not_a_safetensors_file() -> None:
    with pytest.raises(ArtefactError) as caught:
        ledger.parse(b"nothing")
    assert caught.value.id == "MV110"


def test_writing_nothing_is_refused() -> None:
    with pytest.raises(ArtefactError, match="no change") as caught:
        ledger.write({})
    assert caught.value.id == "MV120"


@pytest.mark.parametrize(
    ("name", "indices", "base", "reason"),
    [
        ("v", INDEX, VALUE, "no such tensor"),
        ("w", torch.tensor([1, 4]), VALUE, "out of range"),
        ("w", INDEX, VALUE.bfloat16(), "dtype differs"),
    ],
)
def test_ledger_that_does_not_fit(name: str, indices: torch.Tensor, base: torch.Tensor, reason: str) -> None:
    file = tensors.parse(safetensors.torch.save({"w": torch.zeros(2, 2)}), name="x")
    with pytest.raises(ArtefactError, match=reason) as caught:
        ledger.restore(file, ledger.parse(ledger.write({name: LedgerEntry(indices, base)})))
    assert caught.value.id == "MV121"


@pytest.mark.parametrize("copies", [0, 2])
def test_split_needs_each_tensor_in_one_file(copies: int) -> None:
    file = tensors.parse(safetensors.torch.save({"w": torch.zeros(4)}), name="x")
    other = tensors.parse(safetensors.torch.save({"u": torch.zeros(4)}), name="y")
    with pytest.raises(ArtefactError, match="names tensor") as caught:
        ledger.split(ledger.parse(ledger.write({"w": LedgerEntry(INDEX, VALUE)})), [other] + [file] * copies)
    assert caught.value.id == "MV121"
