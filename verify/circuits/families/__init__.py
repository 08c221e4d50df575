"""Where writers and readers sit in a Hugging Face model, family by family; how to add one: docs/families.md."""

from verify.circuits.families.anatomy import Family, LayerSites, Norm, OwnedSlice, Rows
from verify.circuits.families.registry import FAMILIES, describe
from verify.circuits.families.swapping import swapped
from verify.circuits.families.weights import bias, gain, matrix, offset, owned_slices

__all__ = [
    "FAMILIES",
    "Family",
    "LayerSites",
    "Norm",
    "OwnedSlice",
    "Rows",
    "bias",
    "describe",
    "gain",
    "matrix",
    "offset",
    "owned_slices",
    "swapped",
]
