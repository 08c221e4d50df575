"""MUSE (Shi et al., 2024, arXiv 2407.06460): verbatim and factual memory of a corpus, and membership of its texts."""

from typing import Literal

from pydantic import Field

from mansu.bench.loaders.rows import Hub, Source, read_rows
from verify.contract.schema import Schema

Corpus = Literal["news", "books"]
HUBS: dict[Corpus, Hub] = {"news": Hub("muse-bench/MUSE-News"), "books": Hub("muse-bench/MUSE-Books")}


class Verbatim(Schema):
    """The start of a passage and how it goes on; `gt` is the benchmark's name for the ground truth."""

    prompt: str = Field(min_length=1)
    gt: str = Field(min_length=1)


class Knowledge(Schema):
    """A question about the corpus and its answer."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class Passage(Schema):
    """A text that was trained on and is to be forgotten or kept, or that was never trained on."""

    text: str = Field(min_length=1)


def load_verbmem(source: Source) -> tuple[Verbatim, ...]:
    """Return the passages to continue, of the forget set. Errors: see `read_rows`."""
    return read_rows(Verbatim, source, config="verbmem", split="forget")


def load_knowmem(
    split: Literal["forget_qa", "retain_qa", "forget_qa_icl", "retain_qa_icl"], source: Source
) -> tuple[Knowledge, ...]:
    """Return questions on what is to be forgotten or kept, or the examples shown before them (`_icl`)."""
    return read_rows(Knowledge, source, config="knowmem", split=split)


def load_privleak(split: Literal["forget", "retain", "holdout"], source: Source) -> tuple[Passage, ...]:
    """Return passages whose membership in the training data is tested. Errors: see `read_rows`."""
    return read_rows(Passage, source, config="privleak", split=split)
