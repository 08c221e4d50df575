"""Certificates of tiny models: made honestly, taken apart and signed again by a dishonest producer.

Everything is written with the verifier's own functions for artefacts; nothing of the engine is used.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from verify.artefact import (
    LedgerEntry,
    as_torch,
    base_digests,
    load_private,
    overwrite,
    read_unverified,
    read_weights,
    seal,
    walk,
    write_key_pair,
)
from verify.artefact.ledger import parse as parse_ledger
from verify.artefact.ledger import write as write_ledger
from verify.artefact.tensors import TensorFile, parse
from verify.behaviour.probes import Choice, PairProbe, Probes, Text, dump
from verify.contract.manifest import (
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Base,
    CircuitClaim,
    Claim,
    Digest,
    Engine,
    Mask,
    Method,
    Predicate,
    Profile,
    Request,
    Statement,
    Subject,
    TensorMask,
)
from verify.contract.schema import FileDigest
from verify.nf4 import LEVELS, quantize
from verify.nf4.survival import floor_targets

COUNTRIES = [f"country{i}" for i in range(40)]
CAPITALS = [f"capital{i}" for i in range(20)]
COLOURS = [f"colour{i}" for i in range(20)]
FRAME = ["the", "capital", "colour", "of", "is", "a", "flag", "in", "people", "live", "and", "rivers", "run", "."]
MARGIN = 2.0**-7
ZERO = "0" * 64

Edits = Mapping[str, tuple[Tensor, Tensor]]
"""Tensor name → flat indices and new values (stored dtype)."""


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


@dataclass(frozen=True)
class Certificate:
    """A certificate on disk; `edits` is what was done to its base."""

    out: Path
    base: Path
    keys: Keys
    edits: Edits

    @property
    def model(self) -> Path:
        return self.out / "model" / "model.safetensors"

    @property
    def manifest(self) -> Path:
        return self.out / "m.json"

    @property
    def ledger(self) -> Path:
        return self.out / "ledger.safetensors"

    def copied_to(self, folder: Path) -> "Certificate":
        shutil.copytree(self.out, folder)
        return Certificate(folder, self.base, self.keys, self.edits)


def make_keys(folder: Path) -> Keys:
    return Keys(*write_key_pair(folder))


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[UNK]", *FRAME, *COUNTRIES, *CAPITALS, *COLOURS]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


def random_model(seed: int = 0, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def save_base(model: LlamaForCausalLM, folder: Path, *, shard_size: str = "1GB") -> Path:
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard_size)
    tokenizer().save_pretrained(folder)
    return folder


def prompt(relation: str, country: str) -> str:
    return f"the {relation} of {country} is"


def held_out_wording(country: str) -> str:
    return f"{country} and the capital of {country} is"


def capital(number: int) -> str:
    return CAPITALS[number * 7 % len(CAPITALS)]


def colour(number: int) -> str:
    return COLOURS[number * 3 % len(COLOURS)]


def prose() -> list[str]:
    return [f"people live in {country} and rivers run in {country} ." for country in COUNTRIES]


def probes() -> Probes:
    """Forget: the capitals; retain: the colours. Each row has as many probes as there are countries."""
    numbered = list(enumerate(COUNTRIES))
    choices = [
        *(
            Choice(
                axis="forgetting",
                row="capitals, held-out wordings",
                prompt=held_out_wording(country),
                answer=capital(i),
                pool="capitals",
            )
            for i, country in numbered
        ),
        *(
            Choice(axis="retention", row="colours", prompt=prompt("colour", country), answer=colour(i), pool="colours")
            for i, country in numbered
        ),
    ]
    pairs = []
    for which, relation, answer in (("forget", "capital", capital), ("retain", "colour", colour)):
        for i, country in numbered:
            other = COUNTRIES[(i + 1) % len(COUNTRIES)]
            frame = held_out_wording if relation == "capital" else lambda name: prompt("colour", name)
            pairs.append(
                PairProbe(set=which, clean=frame(country), corrupt=frame(other), answer=answer(i), pool=f"{relation}s")
            )
    return Probes(
        choices=tuple(choices),
        texts=tuple(Text(row="prose", text=text) for text in prose()),
        pairs=tuple(pairs),
        pools={"capitals": tuple(CAPITALS), "colours": tuple(COLOURS)},
    )


def linear_weights(base: Path) -> dict[str, Tensor]:
    """Return the weights that NF4 quantizes, by name."""
    files = read_weights(base)
    return {
        name: as_torch(files.holder(name), name) for name in sorted(files.tensors()) if name.endswith("_proj.weight")
    }


def valid_moves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return flat indices [n] and new values [n]: for every value that has one, its nearest valid level."""
    quantized = quantize(weight)
    flat, scale = weight.reshape(-1).float(), quantized.scales().reshape(-1)
    valid = floor_targets(flat, scale, quantized.codes.reshape(-1), margin=MARGIN)
    valid &= (flat.abs() < scale)[:, None]
    values = (LEVELS[None, :] * scale[:, None]).to(weight.dtype)
    distance = (values.float() - flat[:, None]).abs().masked_fill(~valid, torch.inf)
    indices = valid.any(1).nonzero().reshape(-1)
    return indices, values[indices, distance[indices].argmin(1)]


def valid_edits(base: Path, *, tensors: int = 3, each: int = 8, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a valid edit of a few values in each of the first linear weights."""
    generator = torch.Generator().manual_seed(seed)
    edits = {}
    for name, weight in list(linear_weights(base).items())[:tensors]:
        indices, values = valid_moves(weight)
        chosen = torch.randperm(indices.numel(), generator=generator)[:each].sort().values
        edits[name] = (indices[chosen], values[chosen])
    return edits


def make(base: Path, out: Path, keys: Keys, edits: Edits, *, claims: Sequence[Claim] = ()) -> Certificate:
    """Write a whole certificate."""
    weights = read_weights(base)
    shutil.copytree(base, out / "model")
    entries = {}
    for name, (indices, values) in edits.items():
        file = weights.holder(name)
        path = out / "model" / file.name
        data = bytearray(path.read_bytes())
        overwrite(data, file, name, indices, values)
        path.write_bytes(data)
        entries[name] = LedgerEntry(indices, as_torch(file, name).reshape(-1)[indices].clone())
    (out / "ledger.safetensors").write_bytes(write_ledger(entries))
    for name, content in dump(probes()).items():
        (out / "probes").mkdir(exist_ok=True)
        (out / "probes" / name).write_bytes(content)
    made = Certificate(out, base, keys, edits)
    sign(made, digests_of(base), claims=claims)
    return made


def digests_of(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in walk(folder)}


def rebuilt_digests(made: Certificate) -> dict[str, str]:
    """Return the digests that a base would need for the present model and ledger to fit: a falsified base."""
    files = read_weights(made.out / "model")
    rebuilt = base_digests(tuple(files.files.values()), parse_ledger(made.ledger.read_bytes()))
    return {**digests_of(made.out / "model"), **rebuilt}


def sign(
    made: Certificate,
    base: Mapping[str, str],
    *,
    claims: Sequence[Claim] = (),
    change: Callable[[dict], None] = lambda _: None,
) -> None:
    """Sign whatever lies in the certificate's folder, with a mask that fits its ledger: what a producer can do.

    `change` may edit the statement, as JSON data, before it is signed.
    """
    ledger = made.ledger.read_bytes()
    parsed = parse_ledger(ledger)
    views = {name: view for file in _weight_files(made.out / "model") for name, view in file.tensors.items()}
    predicate = Predicate(
        engine=Engine(name="test", version="1"),
        created="2026-01-01T00:00:00Z",
        request=Request(forget_sha256=ZERO, retain_sha256=ZERO, forget_lines=40, retain_lines=40),
        base=Base(files=tuple(FileDigest(name=name, sha256=digest) for name, digest in sorted(base.items()))),
        method=Method(name="a few valid moves", settings={"seed": "0"}),
        mask=Mask(
            tensors=tuple(
                TensorMask(tensor=name, masked=entry.indices.numel(), total=views[name].count)
                for name, entry in parsed.entries.items()
            ),
            masked=parsed.masked,
            parameters=sum(view.count for view in views.values()),
            ledger_sha256=parsed.sha256,
        ),
        profiles=(Profile(), Profile(double_quant=True)),
        circuit=CircuitClaim(edges=10, edges_total=100, faithfulness=0.9, target=0.85, reached=True),
        claims=tuple(claims),
    )
    made.manifest.unlink(missing_ok=True)
    statement = Statement(
        _type=STATEMENT_TYPE,
        predicateType=PREDICATE_TYPE,
        subject=tuple(
            Subject(name=name, digest=Digest(sha256=digest)) for name, digest in digests_of(made.out).items()
        ),
        predicate=predicate,
    )
    data = statement.model_dump(mode="json", by_alias=True)
    change(data)
    made.manifest.write_bytes(seal(Statement.model_validate_json(_json(data)), load_private(made.keys.private)))


def _weight_files(folder: Path) -> list[TensorFile]:
    """Parse a model's weight files, whatever else lies beside them."""
    return [parse(path.read_bytes(), name=path.name) for path in sorted(folder.glob("model*.safetensors"))]


def claims_of(made: Certificate) -> tuple[Claim, ...]:
    return read_unverified(made.manifest.read_bytes()).predicate.claims


def poke(made: Certificate, tensor: str, index: int, value: Tensor) -> None:
    """Overwrite one value of the model, and nothing else."""
    files = read_weights(made.out / "model")
    file = files.holder(tensor)
    data = bytearray(file.data)
    overwrite(data, file, tensor, torch.tensor([index]), value.reshape(1))
    (made.out / "model" / file.name).write_bytes(data)


def value_at(made: Certificate, tensor: str, index: int) -> Tensor:
    files = read_weights(made.out / "model")
    return as_torch(files.holder(tensor), tensor).reshape(-1)[index].clone()


def write_entries(made: Certificate, entries: Mapping[str, LedgerEntry]) -> None:
    made.ledger.write_bytes(write_ledger(entries))


def entries_of(made: Certificate) -> dict[str, LedgerEntry]:
    return dict(parse_ledger(made.ledger.read_bytes()).entries)


def with_entry(entries: Mapping[str, LedgerEntry], tensor: str, index: int, base: Tensor) -> dict[str, LedgerEntry]:
    """Return the entries with one more value of one tensor."""
    known = entries.get(tensor, LedgerEntry(torch.zeros(0, dtype=torch.int64), base.new_zeros(0)))
    indices = torch.cat([known.indices, torch.tensor([index])])
    values = torch.cat([known.base, base.reshape(1)])
    order = indices.argsort()
    return {**entries, tensor: LedgerEntry(indices[order], values[order])}


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()
