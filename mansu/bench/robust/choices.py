"""Multiple choice: the question with four lettered answers, three of them wrong ones of the pool."""

import torch

from mansu.bench.letters import LETTERS, letter_scores
from mansu.bench.loaders import Question
from mansu.bench.robust.asking import asking
from mansu.bench.robust.cloze import Source, distinct_facts, subject
from mansu.bench.robust.results import Answers
from verify.behaviour.loading import Language


def questions(source: Source, suite: str | None) -> tuple[Question, ...]:
    """Return a question for each fact, at most `source.most`; the right answer stands at a random letter.

    Without a suite, a fact's prompt is its question. Facts with fewer than four possible answers are left out.
    """
    rng = source.rng("choices")
    found = []
    for fact in source.sample(distinct_facts(source.facts), "choices"):
        wrong = [answer for answer in source.pool(fact) if answer != fact.answer]
        if len(wrong) < len(LETTERS) - 1:
            continue
        choices = rng.sample(wrong, len(LETTERS) - 1)
        place = rng.randrange(len(LETTERS))
        choices.insert(place, fact.answer)
        text, topic = fact.prompt, fact.group
        if suite is not None:
            text, topic = asking(suite).question.replace("{}", subject(fact)), asking(suite).topic
        found.append(Question(text, (choices[0], choices[1], choices[2], choices[3]), place, topic))
    return tuple(found)


def choose(language: Language, asked: tuple[Question, ...]) -> Answers:
    """Ask a model, scored by the letters' log-probabilities (`mansu.bench.letters`)."""
    scores = letter_scores(language.model, language.tokenizer, asked)
    right = torch.tensor([score.right for score in scores])
    mass = sum(score.mass for score in scores) / len(scores)
    return Answers("choices", "multiple choice", right, 1 / len(LETTERS), mass)
