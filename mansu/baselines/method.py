"""What a baseline is: a name, a paper, its hyper-parameters, what is swept, and an edit of a model.

A method that trains is three choices: which weights are parameters (`weights`), the loss of a batch (`loss`), and the
training loop, which all share (`mansu.baselines.training`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from mansu.baselines.data import BaselineData, Batch, Budget, batches
from mansu.baselines.training import descend
from mansu.baselines.weights import dense
from mansu.precision import products
from verify.contract.schema import Schema

Loss = Callable[[Any, Batch], Tensor]
"""The loss of one batch under the model being trained, a scalar."""
Editor = Callable[[Any, float], None]
"""Edits a model, a fresh float32 copy of the base, in place; the number is a value of the sweep."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is swept, on a geometric grid: value k is start · factorᵏ, and a larger k edits more.

    The first `count` values are always tried; the tuner goes on in either direction while the best lies at an edge.
    """

    what: str
    start: float
    factor: float = 2.0
    count: int = 4

    def value(self, k: int) -> float:
        """Return the k-th value; k may be negative."""
        return float(self.start * self.factor**k)


class Method(Schema, ABC):
    """A baseline with its hyper-parameters, which default to the paper's."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    """Its arXiv id."""
    sweep: ClassVar[Sweep]

    def require_installed(self) -> None:
        """Raise `UsageError` where a package that the method needs is missing: before a run's work, not after it."""

    def variants(self) -> tuple[Self, ...]:
        """Return the settings to sweep, this one first: others only where papers tune more than a rate by model."""
        return (self,)

    @abstractmethod
    def edit(self, model: Any, data: BaselineData, strength: float, budget: Budget, seed: int) -> None:
        """Edit `model`, a fresh float32 copy of the base, in place; `strength` is a value of the sweep.

        Raises `FloatingPointError` when the edit leaves the finite numbers, `UsageError` when it cannot be made.
        """

    def editor(self, fresh: Callable[[], Any], data: BaselineData, budget: Budget, seed: int) -> Editor:  # noqa: ARG002  (for what is measured on the base)
        """Return what edits at any value of the sweep; what all values share is computed here, once.

        `fresh()` returns a new float32 copy of the base.
        """
        return lambda model, strength: self.edit(model, data, strength, budget, seed)


class Trained(Method):
    """A method that descends a loss with Adam; the sweep is over its learning rate."""

    sweep: ClassVar[Sweep] = Sweep("learning rate", 1e-5)

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002  (subclasses choose by them)
        """Make weights trainable, yield the parameters, and leave the trained weights in place as plain ones."""
        with dense(model) as parameters:
            yield parameters

    @abstractmethod
    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:
        """Return the loss; `model` is still the base, for what is to be read off it."""

    def edit(self, model: Any, data: BaselineData, strength: float, budget: Budget, seed: int) -> None:
        """Train from the base."""
        loss = self.loss(model, data, seed)
        with products(budget.products), self.weights(model, data, seed) as parameters:
            descend(parameters, lambda batch: loss(model, batch), batches(data, budget, seed), strength)
