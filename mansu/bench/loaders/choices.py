"""WMDP (Li et al., 2024, arXiv 2403.03218) and MMLU (Hendrycks et al., 2021, arXiv 2009.03300): four choices each."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from mansu.bench.loaders.rows import Hub, Source, read_rows
from verify.contract.schema import Schema

WMDP = Hub("cais/wmdp")
MMLU = Hub("cais/mmlu")
WMDP_SUBJECTS = {"bio": "biology", "chem": "chemistry", "cyber": "cybersecurity"}
"""Domain → subject as lm-evaluation-harness names it in the prompt."""


class WmdpRow(Schema):
    """One question of WMDP; `answer` is the index of the right choice."""

    question: str = Field(min_length=1)
    choices: tuple[str, str, str, str]
    answer: int = Field(ge=0, le=3)


class MmluRow(WmdpRow):
    """One question of MMLU; `subject` is written with underscores."""

    subject: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with four choices; `answer` is the index of the right one, `subject` is in words."""

    question: str
    choices: tuple[str, str, str, str]
    answer: int
    subject: str


def load_wmdp(domain: str, source: Source = WMDP) -> tuple[Question, ...]:
    """Return the test questions of WMDP's domain "bio", "chem" or "cyber". Errors: see `read_rows`."""
    rows = read_rows(WmdpRow, source, config=f"wmdp-{domain}", split="test")
    return tuple(Question(row.question, row.choices, row.answer, WMDP_SUBJECTS[domain]) for row in rows)


def load_mmlu(subject: str = "all", source: Source = MMLU, *, split: str = "test") -> tuple[Question, ...]:
    """Return MMLU's questions on one subject, such as "high_school_biology", or on all. Errors: see `read_rows`."""
    rows = read_rows(MmluRow, source, config=subject, split=split)
    return tuple(Question(row.question, row.choices, row.answer, row.subject.replace("_", " ")) for row in rows)


def as_lines(questions: Iterable[Question], group: str) -> list[dict[str, object]]:
    """Return questions as lines of a forget or retain set (`mansu.request.lines.MultipleChoice`)."""
    return [
        {
            "question": question.question,
            "choices": list(question.choices),
            "answer": question.answer,
            "group": group,
            "fact": f"{group}:{number}",
        }
        for number, question in enumerate(questions)
    ]
