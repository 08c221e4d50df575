"""A certificate as a patch: all of it but the model, with the edited values, for who holds the base (docs/patch.md).

A patch is a folder: the certificate's `m.json`, `ledger.safetensors` (indices and base values), `probes/` and, if there
is one, `model.sig`, byte for byte, and `edited.safetensors`, which holds the edited values in the ledger's order, per
masked tensor one `NAME.edited` [n] of its dtype. The digests of the base and of every certified file are in `m.json`.

Nothing here needs torch, and no file of a model is ever in memory.
"""

from mansu.patch.rebuild import Outcome, apply, export, revert

__all__ = ["Outcome", "apply", "export", "revert"]
