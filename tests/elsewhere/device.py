"""The device "elsewhere": tensors in ordinary memory that torch takes for another device's.

An operation that mixes its tensors with the CPU's is refused as CUDA refuses it: what may be mixed are single numbers,
indices, and copies. Values are the CPU's own, so that a computation must come to the same on both.
"""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_MIXING = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put", "aten::index_put_"}
"""What CUDA does with tensors of both devices: copies, and indexing by indices that lie on the CPU."""


class Elsewhere(Tensor):
    """A tensor of the device; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[Self], held: Tensor) -> Self:
        found: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        found.held = held
        return found

    def __repr__(self) -> str:
        return f"Elsewhere({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Present(TorchDispatchMode):
    """While it is open, tensors can be made on the device: a factory has no tensor that would say so."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(leaf, Elsewhere) or _is_there(leaf) for leaf in tree_leaves((args, kwargs))):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def register() -> None:
    """Let torch know the device: once, and for the whole process."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []
"""What a library registers lasts as long as it does."""


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
    return Elsewhere(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:  # noqa: ARG001
    _held(target).copy_(_held(source))
    return target


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name = func._schema.name
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(leaf, Elsewhere) for leaf in leaves)
    if there and name not in _MIXING and any(not isinstance(leaf, Elsewhere) and leaf.ndim for leaf in leaves):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cpu and {NAME}")
    if name == "aten::_local_scalar_dense":
        return args[0].held.item()
    if name == "aten::copy_":
        _held(args[0]).copy_(_held(args[1]))
        return args[0]
    asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    known = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, Elsewhere)}
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if asked and not _is_there(asked[0]):
        return found
    # what was changed in place, or written to, is the tensor that it was
    return tree_map(lambda leaf: _there(leaf, known) if isinstance(leaf, Tensor) else leaf, found)


def _there(held: Tensor, known: dict[int, Elsewhere]) -> Elsewhere:
    return known[id(held)] if id(held) in known else Elsewhere(held)


def _held(leaf: Any) -> Any:
    if isinstance(leaf, Elsewhere):
        return leaf.held
    return torch.device("cpu") if _is_there(leaf) else leaf


def _is_there(leaf: Any) -> bool:
    return isinstance(leaf, torch.device) and leaf.type == NAME
