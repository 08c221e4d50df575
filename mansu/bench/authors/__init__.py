"""Fictitious authors in the manner of TOFU: facts that no model knows before it is fine-tuned on them."""

from mansu.bench.authors.people import Author, Authors, build_authors
from mansu.bench.authors.questions import cloze_lines, examples, perturbed_rows
from mansu.bench.authors.real import real_authors, world_facts
from mansu.bench.authors.tuning import fine_tune
from mansu.bench.authors.write import authors_suite, write_authors

__all__ = [
    "Author",
    "Authors",
    "authors_suite",
    "build_authors",
    "cloze_lines",
    "examples",
    "fine_tune",
    "perturbed_rows",
    "real_authors",
    "world_facts",
    "write_authors",
]
