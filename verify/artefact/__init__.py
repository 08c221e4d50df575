"""What a certificate is made of on disk: weights, ledger, signed manifest, keys. Everything here trusts nothing.

`tensors` and `ledger` read and write safetensors, `files` the file system, `envelope` DSSE and strict JSON,
`bundle` the manifest, `keys` the signing keys. Check ids: MV101 files, MV102 to MV104 manifest and signature,
MV110 safetensors, MV111 index of shards, MV120 ledger, MV121 ledger against weights.
"""

from verify.artefact.bundle import Opened, read_unverified, seal, unseal
from verify.artefact.envelope import shown, strict_json
from verify.artefact.files import (
    ModelFiles,
    parse_weights,
    read_regular,
    read_weights,
    relative_parts,
    walk,
    write_atomic,
)
from verify.artefact.keys import fingerprint, load_private, load_public, write_key_pair
from verify.artefact.ledger import Ledger, LedgerEntry, base_digests, restore, split
from verify.artefact.tensors import TensorFile, TensorView, as_torch, overwrite

__all__ = [
    "Ledger",
    "LedgerEntry",
    "ModelFiles",
    "Opened",
    "TensorFile",
    "TensorView",
    "as_torch",
    "base_digests",
    "fingerprint",
    "load_private",
    "load_public",
    "overwrite",
    "parse_weights",
    "read_regular",
    "read_unverified",
    "read_weights",
    "relative_parts",
    "restore",
    "seal",
    "shown",
    "split",
    "strict_json",
    "unseal",
    "walk",
    "write_atomic",
    "write_key_pair",
]
