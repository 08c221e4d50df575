"""Passes through base, edited model and all that lies between, over sequences of one length.

Every pass of a batch uses one attention (eager, which has a forward derivative), so that they differ by the edit alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from mansu.retain_bound.edit import Edits, applied, blocks_of

Listen = Callable[[str, Tensor], None]
"""Called with a layer's name and its base input `[n, T, in]`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token sequences of one length, int64 `[n, T]`; predictions count at the last position only, or at every one."""

    ids: Tensor
    last: bool

    @property
    def per_sequence(self) -> int:
        """Return how many positions count in each sequence."""
        return 1 if self.last else self.ids.shape[1]

    def arguments(self) -> dict[str, Any]:
        """Return a model's arguments."""
        kept = {"logits_to_keep": torch.tensor([self.ids.shape[1] - 1])} if self.last else {}
        return {"input_ids": self.ids, "use_cache": False, **kept}


@dataclass(frozen=True, slots=True)
class Tangent:
    """One pass of the base with the edit's direction: logits and their derivative along Δ, `[P, vocabulary]`.

    `added` is ΔW x of each edited layer, at the base's inputs, `[n, T, k]` by layer name.
    """

    logits: Tensor
    derivative: Tensor
    added: Mapping[str, Tensor]


@torch.no_grad()
def tangent(model: Any, edits: Edits, batch: Batch, listen: Listen | None = None) -> Tangent:
    """Run the base in forward mode: each edited layer adds ΔW x to the derivative of its output (exact JVP)."""
    added: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., Tensor]:
        def add(module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x, _ = _parts(args[0])
            if listen is not None:
                listen(name, x)
            added[name] = edits[name].added(x.float())
            step = edits[name].spread(added[name], module.out_features)
            dual: Tensor = forward_ad.make_dual(torch.zeros_like(output), step.to(output.dtype))  # type: ignore[no-untyped-call]
            return output + dual

        return add

    with forward_ad.dual_level(), _hooked(model, {name: hook(name) for name in edits}):
        logits, derivative = _parts(model(**batch.arguments()).logits)
        return Tangent(logits.float().flatten(0, 1), derivative.float().flatten(0, 1), added)


def _parts(dual: Tensor) -> tuple[Tensor, Tensor]:
    """Return a dual number's value and derivative, zero where it has none."""
    value, derivative = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value, torch.zeros_like(value) if derivative is None else derivative


@torch.no_grad()
def steps(model: Any, edits: Edits, batch: Batch, added: Mapping[str, Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield, for each edited decoder layer in order, its number and the logits z⁽ˡ⁾; the last are the edited model's.

    z⁽ˡ⁾ belongs to the edited model in which each layer after l gives back what the edit adds at the base's inputs
    (W′x′ − ΔW x): with all of them corrected it computes the base, with none itself. Layers up to l then compute what
    they do in the edited model, once for all.
    """
    numbers = sorted({edit.block for edit in edits.values()})
    stack = blocks_of(model, edits)
    with applied(model, edits):
        states: dict[int, Any] = {}
        with ExitStack() as hooks:
            for number in numbers:
                handle = stack[number].register_forward_hook(
                    lambda _m, _a, out, number=number: _keep(states, number, out)
                )
                hooks.callback(handle.remove)
            edited = model(**batch.arguments()).logits.float().flatten(0, 1)
        for number in numbers[:-1]:
            later = {name: _corrected(edits, name, added[name]) for name in edits if edits[name].block > number}
            with _hooked(model, later), _resumed(stack, number, states[number]):
                logits = model(**batch.arguments()).logits.float().flatten(0, 1)
            del states[number]
            yield number, logits
        yield numbers[-1], edited


def _keep(states: dict[int, Any], number: int, output: Any) -> None:
    states[number] = output


def _corrected(edits: Edits, name: str, added: Tensor) -> Callable[..., Tensor]:
    def correct(module: nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output - edits[name].spread(added, module.out_features).to(output.dtype)

    return correct


@contextmanager
def _resumed(stack: Any, number: int, state: Any) -> Iterator[None]:
    """Let the decoder layers up to `number` return `state`, without computing anything."""
    for layer in stack[: number + 1]:
        layer.forward = lambda *_args, **_kwargs: state
    try:
        yield
    finally:
        for layer in stack[: number + 1]:
            del layer.forward


@contextmanager
def _hooked(model: Any, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, hook in hooks.items():
            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield
