"""What a certificate is made of on disk: weights, ledger, signed manifest, keys. Everything here trusts nothing.

`files` opens the file system's files, `tensors` reads safetensors, `weights` finds a model's, `ledger_format` and
`ledger` the ledger (by the piece; in memory), `envelope` DSSE and strict JSON, `bundle` the manifest, `keys` the keys,
`certificates` X.509, `material` and `signing` who signed and who may, `oms` model.sig, `anchors` what the user trusts.
Check ids: MV101 files, MV102 to MV104 manifest and signature, MV110 safetensors, MV111 which weight files count,
MV120 ledger, MV121 ledger against weights. What works with torch tensors loads on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from verify.artefact.bundle import Opened, read_unverified, seal, unseal
from verify.artefact.envelope import shown, strict_json
from verify.artefact.files import OpenFile, open_regular, read_regular, relative_parts, walk, write_atomic
from verify.artefact.keys import fingerprint, load_private, load_public, write_key_pair
from verify.artefact.ledger_format import Changes, LedgerStream
from verify.artefact.tensors import Layout, TensorFile, TensorView, read_layout
from verify.artefact.weights import ModelFiles, parse_weights, plan_weights, read_weights

if TYPE_CHECKING:
    from verify.artefact.ledger import Ledger, LedgerEntry, base_digests, restore, split
    from verify.artefact.torch_tensors import as_torch, overwrite

__all__ = [
    "Changes",
    "Layout",
    "Ledger",
    "LedgerEntry",
    "LedgerStream",
    "ModelFiles",
    "OpenFile",
    "Opened",
    "TensorFile",
    "TensorView",
    "as_torch",
    "base_digests",
    "fingerprint",
    "load_private",
    "load_public",
    "open_regular",
    "overwrite",
    "parse_weights",
    "plan_weights",
    "read_layout",
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

_WITH_TORCH = {
    **dict.fromkeys(("Ledger", "LedgerEntry", "base_digests", "restore", "split"), "verify.artefact.ledger"),
    **dict.fromkeys(("as_torch", "overwrite"), "verify.artefact.torch_tensors"),
}


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first asked for: the static verifier never does."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_TORCH[name]), name)
