"""The authors' sets as files: what the engine reads, and what TOFU's readers read."""

from pathlib import Path

from mansu.bench.authors.people import Authors
from mansu.bench.authors.questions import cloze_lines, perturbed_rows
from mansu.bench.authors.real import real_authors, world_facts
from mansu.bench.suites import capitals
from mansu.bench.suites.suite import Suite, prose
from mansu.demo import sets
from mansu.demo.sets import write_lines, write_pair
from verify.errors import UsageError


def authors_suite(authors: Authors) -> Suite:
    """Return the authors to forget in ten wordings, and to keep: the others in one, real knowledge, and prose.

    The base model of this suite is one that was fine-tuned on `authors.every`.
    """
    retain = [
        *cloze_lines(authors.retain, group="kept authors", wordings=1),
        *capitals.row(),
        *sets.element_lines(sets.load_elements()),
        *sets.language_lines(sets.load_countries()),
        *prose(),
    ]
    return Suite("authors", tuple(cloze_lines(authors.forget, group="authors")), tuple(retain))


def write_authors(folder: Path, authors: Authors) -> tuple[Path, Path]:
    """Write forget.jsonl and retain.jsonl, and TOFU's splits beside them; return the paths of the two.

    The splits are forget_perturbed.json, retain_perturbed.json, real_authors_perturbed.json and
    world_facts_perturbed.json, one object a line. Raises `UsageError` ME200 if the folder cannot be written.
    """
    suite = authors_suite(authors)
    paths = write_pair(folder, suite.forget, suite.retain)
    splits = {
        "forget": perturbed_rows(authors.forget),
        "retain": perturbed_rows(authors.retain),
        "real_authors": real_authors(),
        "world_facts": world_facts(),
    }
    try:
        for name, rows in splits.items():
            lines = (row.model_dump(mode="json", exclude_none=True) for row in rows)
            write_lines(folder / f"{name}_perturbed.json", lines)
    except OSError as error:
        raise UsageError(
            f"the splits cannot be written to {folder}",
            expected="a folder that can be written",
            found=str(error),
            remedy="choose another folder",
        ) from error
    return paths
