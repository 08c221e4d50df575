"""The producer of the test vectors: a tiny random model, throwaway keys that everybody may know, an honest certificate.

The model is a Llama of one layer, 16 wide, with 1840 parameters, so that a whole certificate is a few KiB. Keys and
weights follow from the constants here. What changes a certificate and signs it again is here too.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import certificates as c
import rfc8785
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from verify.artefact.bundle import pack
from verify.artefact.ledger import parse as parse_ledger
from verify.contract.manifest import DEFAULT_PROFILES, PAYLOAD_TYPE
from verify.errors import ArtefactError
from verify.nf4 import quantize

HIDDEN, INNER, HEADS, VOCABULARY = 16, 16, 2, 16
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "vocab_size": VOCABULARY,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
_LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    _LAYER + "input_layernorm.weight": (HIDDEN,),
    _LAYER + "post_attention_layernorm.weight": (HIDDEN,),
    _LAYER + "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    _LAYER + "self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
    _LAYER + "self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
    _LAYER + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    _LAYER + "mlp.gate_proj.weight": (INNER, HIDDEN),
    _LAYER + "mlp.up_proj.weight": (INNER, HIDDEN),
    _LAYER + "mlp.down_proj.weight": (HIDDEN, INNER),
}
MASKED = _LAYER + "mlp.down_proj.weight"
"""A tensor that the honest certificate masks values of."""
UNMASKED = _LAYER + "self_attn.v_proj.weight"
"""One that it leaves alone."""
EMBEDDING = "model.embed_tokens.weight"

PROBES = {
    "choices.jsonl": '{"axis":"forgetting","row":"a, held-out wordings","prompt":"a b","answer":"c","pool":"p"}\n',
    "pairs.jsonl": '{"set":"forget","clean":"a b","corrupt":"b a","answer":"c","pool":"p"}\n',
    "pools.json": '{"p": ["c", "d"]}\n',
    "text.jsonl": '{"row":"prose","text":"a b c d"}\n',
}
Statement = dict[str, Any]
Change = Callable[[Statement], object]


def key(owner: str) -> ec.EllipticCurvePrivateKey:
    """Return a key whose private half is public: it is the digest of its owner's name."""
    digest = hashlib.sha256(f"mansu test vectors: {owner}".encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest, "big"), ec.SECP256R1())


def public_pem(owner: str) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key(owner).public_key().public_bytes(encoding, form)


def write_keys(folder: Path, owner: str = "producer") -> c.Keys:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private, public = folder / f"{owner}-private.pem", folder / f"{owner}.pem"
    private.write_bytes(key(owner).private_bytes(serialization.Encoding.PEM, form, none))
    public.write_bytes(public_pem(owner))
    return c.Keys(private, public)


def weights(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.ones(shape, dtype=dtype)
        if len(shape) == 1
        else (torch.randn(shape, generator=generator) * 0.02).to(dtype)
        for name, shape in SHAPES.items()
    }


def write_base(
    folder: Path, tensors: Mapping[str, Tensor], *, shards: int = 1, config: Any = CONFIG, tokenizer: bool = False
) -> Path:
    """Write a model folder, in one weight file or in several with their index; a tokenizer only where one is read."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if tokenizer:
        words = {word: number for number, word in enumerate(("[UNK]", *"abcdefghijklmno"))}
        plain = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        plain.pre_tokenizer = Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]").save_pretrained(folder)
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names, weight_map = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return folder


def moves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices and values of moves that are valid in blocks of 64 and of 128: both have the same scale there."""
    indices, values = c.valid_moves(weight)
    narrow, wide = (quantize(weight, block_size=size).scales().reshape(-1)[indices] for size in (64, 128))
    return indices[narrow == wide], values[narrow == wide]


def edits(
    base: Path, *, tensors: Sequence[str] = (MASKED, _LAYER + "self_attn.q_proj.weight"), each: int = 4
) -> c.Edits:
    found = {}
    for name in tensors:
        indices, values = moves(c.linear_weights(base)[name])
        step = max(indices.numel() // each, 1)
        found[name] = (indices[::step][:each], values[::step][:each])
    return found


def certify(base: Path, out: Path, keys: c.Keys, changed: c.Edits | None = None) -> c.Certificate:
    """Write an honest certificate under mansu's default profiles, with probes of one line each."""
    made = c.make(base, out, keys, edits(base) if changed is None else changed)
    for name, text in PROBES.items():
        (out / "probes" / name).write_text(text)

    def change(statement: Statement) -> None:
        statement["predicate"]["profiles"] = [profile.model_dump(mode="json") for profile in DEFAULT_PROFILES]
        statement["predicate"]["engine"] = {"name": "mansu test vectors", "version": "1"}

    sign_again(made, change)
    return made


def statement_of(made: c.Certificate) -> Statement:
    document = json.loads(made.manifest.read_bytes())
    return json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))


def sign_again(made: c.Certificate, change: Change = lambda _: None, *, owner: str = "producer") -> None:
    """Sign what lies in the folder: subjects, and the mask of a ledger that can be read. `change` has the last word."""
    statement = statement_of(made)
    digests = c.digests_of(made.out)
    digests.pop("m.json", None)
    statement["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]
    _recount(made, statement["predicate"]["mask"])
    change(statement)
    sign_payload(made, rfc8785.dumps(statement), owner=owner)


def _recount(made: c.Certificate, mask: dict[str, Any]) -> None:
    try:
        ledger = parse_ledger(made.ledger.read_bytes())
    except ArtefactError:
        mask["ledger_sha256"] = hashlib.sha256(made.ledger.read_bytes()).hexdigest()
        return
    except FileNotFoundError:
        return
    totals = {name: torch.Size(shape).numel() for name, shape in SHAPES.items()}
    mask["tensors"] = [
        {"tensor": name, "masked": entry.indices.numel(), "total": totals.get(name, 1)}
        for name, entry in ledger.entries.items()
    ]
    mask |= {"masked": ledger.masked, "ledger_sha256": ledger.sha256}


def sign_payload(
    made: c.Certificate, payload: bytes, *, payload_type: str = PAYLOAD_TYPE, owner: str = "producer"
) -> None:
    made.manifest.write_bytes(pack(payload, payload_type, key(owner)))


def with_base(made: c.Certificate) -> Change:
    """Return a change that names the base which the files rebuild, whatever base that is."""
    files = [{"name": name, "sha256": digest} for name, digest in sorted(c.rebuilt_digests(made).items())]
    return lambda statement: statement["predicate"]["base"].update(files=files)


def base_as_it_lies(made: c.Certificate) -> Change:
    """Return a change that gives the base the model's other files as they lie; the weights keep their digest."""

    def change(statement: Statement) -> None:
        files = {entry["name"]: entry["sha256"] for entry in statement["predicate"]["base"]["files"]}
        lying = c.digests_of(made.out / "model")
        files = {
            name: files.get(name, digest) if name.endswith(".safetensors") else digest for name, digest in lying.items()
        }
        named = [{"name": name, "sha256": digest} for name, digest in sorted(files.items())]
        statement["predicate"]["base"]["files"] = named

    return change


def a_masked_value(made: c.Certificate, at: int = 0) -> tuple[str, int, Tensor]:
    """Return the tensor, flat index and base value of one masked parameter."""
    entry = c.entries_of(made)[MASKED]
    return MASKED, int(entry.indices[at]), entry.base[at]


def scale_at(made: c.Certificate, tensor: str, index: int) -> Tensor:
    return quantize(c.linear_weights(made.base)[tensor]).scales().reshape(-1)[index]


def declare(made: c.Certificate, tensor: str, index: int, value: Tensor) -> None:
    """Change one value and enter it in the ledger."""
    base = c.value_at(made, tensor, index)
    c.poke(made, tensor, index, value)
    c.write_entries(made, c.with_entry(c.entries_of(made), tensor, index, base))


def remake(
    made: c.Certificate, tensors: Mapping[str, Tensor], changed: c.Edits | None = None, **form: Any
) -> c.Certificate:
    """Replace the certificate by an honest one of another base; `form` is how `write_base` writes it."""
    base = write_base(made.out.with_name("base"), tensors, **form)
    shutil.rmtree(made.out)
    remade = certify(base, made.out, made.keys, changed)
    shutil.rmtree(base)
    return remade
