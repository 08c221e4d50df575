"""What is measured: one row for each way of asking, and one point for each checkpoint of relearning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from verify.behaviour.statistics import paired_difference, proportion
from verify.contract.schema import Estimate, Schema

Way = Literal["wordings", "paraphrases", "languages", "choices", "open", "few-shot"]
Kind = Literal["facts", "text"]


class RobustRow(Schema):
    """How many of `n` forgotten facts a model answers when it is asked in one way.

    `correct` is the share with its Wilson interval. `chance` is what guessing gets, None where anything may be said;
    `mass` the mean probability of all letters together (multiple choice alone: near zero, the model answers with no
    letter and `correct` says little). `dropped` names what was left out because the base does not understand it.
    """

    way: Way
    label: str
    n: int
    correct: Estimate
    chance: float | None = None
    mass: float | None = None
    dropped: tuple[str, ...] = ()


class RelearningPoint(Schema):
    """Accuracy after `steps` steps of fine-tuning: "facts", on half B after training on half A; "text", on all."""

    kind: Kind
    steps: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Answers:
    """A row probe by probe: `right` is bool `[n]`, in the same order for every model that was asked the same."""

    way: Way
    label: str
    right: Tensor
    chance: float | None = None
    mass: float | None = None
    dropped: tuple[str, ...] = ()

    def row(self) -> RobustRow:
        """Return the row."""
        return RobustRow(
            way=self.way,
            label=self.label,
            n=self.right.numel(),
            correct=proportion(self.right),
            chance=self.chance,
            mass=self.mass,
            dropped=self.dropped,
        )


def differences(after: Sequence[Answers], before: Sequence[Answers]) -> dict[str, Estimate]:
    """Return, by label, share(after) − share(before) of two models that were asked the same, with paired intervals."""
    earlier = {answers.label: answers for answers in before}
    return {answers.label: paired_difference(answers.right, earlier[answers.label].right) for answers in after}
