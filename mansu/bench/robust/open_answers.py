"""Open answers: what the model itself says after the prompt, token by token."""

import re

import torch

from mansu.bench.completions import greedy
from mansu.bench.robust.cloze import Source
from mansu.bench.robust.results import Answers
from mansu.request import Fact
from verify.behaviour.loading import Language

TOKENS = 8
_BATCH = 25


def open_questions(source: Source) -> tuple[Fact, ...]:
    """Return a sample of the held-out wordings."""
    return tuple(source.sample(source.facts, "open"))


def answer_openly(language: Language, facts: tuple[Fact, ...]) -> Answers:
    """Let a model continue each prompt greedily for 8 tokens; right if it says the answer among them."""
    # prompts of about one length together: shorter ones are filled up
    order = sorted(range(len(facts)), key=lambda i: len(facts[i].prompt))
    prompts = [facts[i].prompt for i in order]
    said = greedy(language.model, language.tokenizer, prompts, tokens=TOKENS, size=_BATCH)
    right = torch.zeros(len(facts), dtype=torch.bool)
    for i, text in zip(order, said, strict=True):
        right[i] = says(text, facts[i].answer)
    return Answers("open", "open answers", right)


def says(text: str, answer: str) -> bool:
    """Whether the answer stands in the text as whole words, letter for letter: He is helium, "he" and "Hen" are not."""
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None
