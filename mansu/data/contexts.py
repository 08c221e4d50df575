"""Contexts to forget in: answered examples before a prompt, as somebody would put them to get an answer out.

An edit that was trained on bare prompts alone can be asked around: with four answered examples first, the demo's edit
still gives most capitals (docs/robust.md).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mansu.data.examples import Prompts
from mansu.request import Fact
from verify.behaviour.probes import AnswerTokens

MOST = 4
"""Most examples before a prompt."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Answered examples as tokens, the first token of each one's answer, and the share of prompts that get any.

    `start` is what the tokenizer puts before every text; it stays before the first example.
    """

    lines: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    start: tuple[int, ...]
    share: float

    def before(self, prompts: Prompts, rng: random.Random) -> Prompts:
        """Return the prompts, a share of them after one to `MOST` examples whose answers are others."""
        ids = [
            self._after_examples(row, answer, rng) if rng.random() < self.share else row
            for row, answer in zip(prompts.ids, prompts.answers, strict=True)
        ]
        return Prompts(tuple(ids), prompts.answers, prompts.pools)

    def _after_examples(self, prompt: tuple[int, ...], answer: int, rng: random.Random) -> tuple[int, ...]:
        drawn = rng.sample(range(len(self.lines)), min(2 * MOST, len(self.lines)))
        others = [i for i in drawn if self.answers[i] != answer][: rng.randint(1, MOST)]
        examples = [token for i in others for token in self.lines[i]]
        bare = prompt[len(self.start) :] if prompt[: len(self.start)] == self.start else prompt
        return (*self.start, *examples, *bare)


def contexts(tokenizer: Any, facts: Sequence[Fact], share: float) -> Contexts | None:
    """Return the facts as examples, a line each, or None where no prompt is to get any."""
    if not share or not facts:
        return None
    first = AnswerTokens(tokenizer)
    lines = [f"{fact.prompt} {fact.answer}.\n" for fact in facts]
    return Contexts(
        lines=tuple(tuple(tokenizer(line, add_special_tokens=False)["input_ids"]) for line in lines),
        answers=tuple(first(fact.answer) for fact in facts),
        start=tuple(tokenizer("")["input_ids"]),
        share=share,
    )
