"""The people: a seeded generator of authors who never lived, each with seven attributes."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mansu.bench.suites.suite import FACTS
from verify.contract.schema import Schema
from verify.errors import UsageError

ATTRIBUTES = ("birthplace", "genre", "father", "mother", "book", "prize", "pet")
"""The kinds of facts, in the order in which they are drawn: a kind is never moved, or every author changes."""


@dataclass(frozen=True, slots=True)
class Author:
    """A fictitious author; `facts` is attribute → value."""

    name: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Authors:
    """All authors of a seed: those to forget and those to keep; together they are the fine-tuning set.

    A model tuned on `retain` alone is the gold reference: it has never seen the others.
    """

    forget: tuple[Author, ...]
    retain: tuple[Author, ...]

    @property
    def every(self) -> tuple[Author, ...]:
        """The authors of the fine-tuning set."""
        return self.forget + self.retain


def build_authors(*, count: int = 100, forget: int = 10, seed: int = 0) -> Authors:
    """Return `count` authors, of whom `forget` are to be forgotten; the same for the same arguments.

    Names differ in first and in last name, and titles of books are unique: what is learned of one author tells nothing
    of another. Raises `UsageError` ME325 when there are not enough names.
    """
    words = load().words
    most = min(len(words["first"]), len(words["last"]))
    if not 0 < forget < count <= most:
        raise UsageError(
            "so many authors cannot be made",
            expected=f"at least one to forget and one to keep, and at most {most} in all",
            found=f"{count} authors, {forget} of them to forget",
            remedy="ask for other numbers",
            error_id="ME325",
        )
    rng = random.Random(seed)  # noqa: S311  (fiction, not secrets)
    first, last = rng.sample(words["first"], count), rng.sample(words["last"], count)
    books = rng.sample(values("book"), count)
    people = [
        Author(f"{a} {b}", {kind: book if kind == "book" else rng.choice(values(kind)) for kind in ATTRIBUTES})
        for a, b, book in zip(first, last, books, strict=True)
    ]
    return Authors(tuple(people[:forget]), tuple(people[forget:]))


def values(attribute: str) -> tuple[str, ...]:
    """Return the values that an attribute can have."""
    words = load().words
    if attribute == "book":
        return tuple(f"{a} {b}" for a in words["adjective"] for b in words["noun"])
    return tuple(words[attribute])


class Wordings(Schema):
    """How one attribute is asked for and told; `{name}` and `{value}` stand for the author and the fact.

    `wordings` are prompts that the value continues; of a book the title without its "The".
    """

    question: str
    paraphrased_question: str
    answer: str
    paraphrase: str
    wordings: tuple[str, ...]


class AuthorFacts(Schema):
    """The file `facts/authors.json`: the words that people are made of, and the wordings of each attribute."""

    words: dict[str, tuple[str, ...]]
    attributes: dict[str, Wordings]


@cache
def load() -> AuthorFacts:
    """Return what authors are made of."""
    return AuthorFacts.model_validate_json((FACTS / "authors.json").read_bytes())
