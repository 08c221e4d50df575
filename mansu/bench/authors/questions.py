"""The authors' facts as text: to fine-tune on, to ask with wrong answers beside the right one, and to unlearn."""

import random
from collections.abc import Iterable, Iterator

from mansu.bench.authors.people import Author, Wordings, load, values
from mansu.bench.completions import ask
from mansu.bench.loaders import Perturbed
from mansu.demo.sets import Line, without

WRONG_ANSWERS = 5
"""As many as TOFU gives to a question about a fictitious author."""


def perturbed_rows(people: Iterable[Author], *, seed: int = 0) -> tuple[Perturbed, ...]:
    """Return a question for every fact, its answer, a paraphrase of it, and wrong ones worded like the paraphrase."""
    rng = random.Random(seed)  # noqa: S311  (fiction, not secrets)
    return tuple(_row(author, kind, rng) for author in people for kind in author.facts)


def examples(people: Iterable[Author]) -> list[tuple[str, str]]:
    """Return what to fine-tune on: prompts and what follows them.

    For every fact both questions with the answer, and every wording with the value. The paraphrased and the wrong
    answers of `perturbed_rows` are never among them.
    """
    found = []
    for author in people:
        for kind, value in author.facts.items():
            wordings = load().attributes[kind]
            answer = _told(wordings.answer, author, value)
            questions = (wordings.question, wordings.paraphrased_question)
            found += [(ask(_told(question, author)), answer) for question in questions]
            found += [(_told(prompt, author), f"{value}.") for prompt in wordings.wordings]
    return found


def cloze_lines(people: Iterable[Author], *, group: str, wordings: int | None = None) -> Iterator[Line]:
    """Yield the facts in the first `wordings` wordings (None: all), as lines of a forget or retain set."""
    for author in people:
        for kind, value in author.facts.items():
            wrong = _alternatives(kind, value)
            for prompt in load().attributes[kind].wordings[:wordings]:
                yield {
                    "prompt": _told(prompt, author),
                    "answer": value,
                    "group": group,
                    "fact": f"{kind}:{author.name}",
                    "alternatives": wrong,
                }


def _row(author: Author, kind: str, rng: random.Random) -> Perturbed:
    wordings: Wordings = load().attributes[kind]
    value = author.facts[kind]
    wrong = rng.sample(without(values(kind), (value,)), WRONG_ANSWERS)
    return Perturbed(
        question=_told(wordings.question, author),
        answer=_told(wordings.answer, author, value),
        paraphrased_question=_told(wordings.paraphrased_question, author),
        paraphrased_answer=_told(wordings.paraphrase, author, value),
        perturbed_answer=tuple(_told(wordings.paraphrase, author, other) for other in wrong),
    )


def _alternatives(kind: str, value: str) -> list[str]:
    """Return the wrong values; of books, one title for each other first word, at which the choice is decided."""
    if kind != "book":
        return without(values(kind), (value,))
    by_word = {title.partition(" ")[0]: title for title in values(kind)}
    return [title for word, title in by_word.items() if word != value.partition(" ")[0]]


def _told(template: str, author: Author, value: str = "") -> str:
    text = template.replace("{name}", author.name).replace("{value}", value)
    return text[0].upper() + text[1:]
