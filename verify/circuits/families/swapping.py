"""Lending a model the late layers of another, for CAD's depth profile."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from verify.circuits.families.registry import describe
from verify.errors import UsageError


@contextmanager
def swapped(model: nn.Module, reference: nn.Module, from_layer: int) -> Iterator[nn.Module]:
    """Lend `model` the reference's layers from `from_layer` on, its final norm and its read-out, for a depth profile.

    `from_layer` = number of layers lends the read-out only. Modules are shared, nothing is copied; they are put back
    on exit. Raises `UsageError` when the two models differ in anatomy or `from_layer` is out of range.
    """
    family = describe(model)
    if describe(reference) != family:
        raise UsageError("the reference model has another anatomy than the model", expected=family.architecture)
    if not 0 <= from_layer <= family.graph.layers:
        raise UsageError("no such layer to swap from", expected=f"0 to {family.graph.layers}", found=str(from_layer))
    names = [f"{family.layers}.{index}" for index in range(from_layer, family.graph.layers)]
    names += [family.final_norm.name, family.unembedding]
    own = {name: model.get_submodule(name) for name in names}
    try:
        for name in names:
            model.set_submodule(name, reference.get_submodule(name))
        yield model
    finally:
        for name, module in own.items():
            model.set_submodule(name, module)
