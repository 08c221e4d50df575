"""TOFU (Maini et al., 2024, arXiv 2401.06121): questions about fictitious authors, with right and wrong answers."""

from typing import Literal

from pydantic import Field

from mansu.bench.loaders.rows import Hub, Source, read_rows
from verify.contract.schema import Schema

TOFU = Hub("locuslab/TOFU")

Split = Literal["forget01", "forget05", "forget10", "retain90", "retain95", "retain99", "full", "real_authors"]
PerturbedSplit = Literal[
    "forget01_perturbed",
    "forget05_perturbed",
    "forget10_perturbed",
    "retain_perturbed",
    "real_authors_perturbed",
    "world_facts_perturbed",
    "forget_perturbed",  # not TOFU's own: the authors that `mansu.bench.authors` writes
]


class QuestionAnswer(Schema):
    """A question and its answer, to fine-tune on or to unlearn."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class Perturbed(QuestionAnswer):
    """A question with wrong answers; about fictitious authors, with the right one in other words too.

    About real authors and world facts there is no paraphrase, and the answer itself takes its place (`right`).
    """

    perturbed_answer: tuple[str, ...] = Field(min_length=1)
    paraphrased_answer: str | None = None
    paraphrased_question: str | None = None

    @property
    def right(self) -> str:
        """The right answer that wrong ones are compared with: the paraphrase where there is one."""
        return self.paraphrased_answer or self.answer


def load_tofu(split: Split, source: Source = TOFU) -> tuple[QuestionAnswer, ...]:
    """Return the questions and answers of a split. Errors: see `read_rows`."""
    return read_rows(QuestionAnswer, source, config=split, split="train")


def load_tofu_perturbed(split: PerturbedSplit, source: Source = TOFU) -> tuple[Perturbed, ...]:
    """Return the questions of a split with their wrong answers. Errors: see `read_rows`."""
    return read_rows(Perturbed, source, config=split, split="train")
