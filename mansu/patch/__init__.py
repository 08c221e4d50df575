"""A certificate as a patch: all of it but the model, for whoever holds the base (docs/patch.md)."""

from mansu.patch.rebuild import Outcome, apply, export, revert

__all__ = ["Outcome", "apply", "export", "revert"]
