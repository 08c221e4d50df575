"""The catalogue: every id in the code is described, every description is used, and nothing is half a description."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from verify.checks.catalog import CATALOGUE, DEPLOYED_CATALOGUE
from verify.contract.catalogue import CHECKS, DEPLOYED, ENTRIES, ERRORS, REPORTS
from verify.contract.catalogue.entry import entries_of, read
from verify.errors import ArtefactError, MansuError, UsageError

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for part in ("verify", "mansu", "reports")
    for path in (ROOT / part).rglob("*.py")
    if path.parent.name != "catalogue"
]
ID = re.compile(r"\b(?:MV|ME)\d{3}\b")


def ids_in_the_code() -> set[str]:
    return {found for path in SOURCES for found in ID.findall(path.read_text(encoding="utf-8"))}


def test_every_id_of_the_code_is_described_and_every_description_is_used() -> None:
    assert len(SOURCES) > 100
    assert ids_in_the_code() == ENTRIES.keys()


def test_errors_are_described_by_their_own_id() -> None:
    def heirs(kind: type[MansuError]) -> set[type[MansuError]]:
        return {kind, *(heir for child in kind.__subclasses__() for heir in heirs(child))}

    ids = {kind.id for kind in heirs(MansuError) if kind is not ArtefactError and kind.__module__.startswith("verify")}
    assert ids <= {entry.id for entry in ERRORS}


def test_checks_and_errors_are_told_apart_by_id_and_each_once() -> None:
    assert all(entry.id.startswith("MV") and entry.group != "error" for entry in CHECKS)
    assert all(entry.id.startswith("ME") and entry.group == "error" for entry in ERRORS)
    assert len(ENTRIES) == len(CHECKS) + len(DEPLOYED) + len(REPORTS) + len(ERRORS)
    assert list(CATALOGUE.items()) == [(entry.id, (entry.group, entry.title)) for entry in CHECKS]
    assert list(DEPLOYED_CATALOGUE) == [entry.id for entry in DEPLOYED if entry.group == "deployed"]


def test_no_description_holds_the_verdicts_word() -> None:
    assert not any("PASS" in text for e in ENTRIES.values() for text in (e.title, e.meaning, e.why, e.fix))


GOOD = "Title.\n\nMeans a\nthing.\n\nAnd more.\n\nWhy: because.\n\nFix: do\nthis.\n\nThen that."


def test_a_docstring_has_four_parts() -> None:
    entry = read("MV999", "integrity", GOOD)
    assert (entry.title, entry.meaning) == ("Title", "Means a thing.\n\nAnd more.")
    assert (entry.why, entry.fix) == ("Because.", "Do this.\n\nThen that.")


@pytest.mark.parametrize("left_out", ["Title.", "Means a\nthing.\n\nAnd more.\n\n", "Why: because.\n\n", "Fix: "])
def test_a_part_that_is_missing_is_an_error(left_out: str) -> None:
    with pytest.raises(ValueError, match="MV999"):
        read("MV999", "integrity", GOOD.replace(left_out, ""))


def test_without_docstrings_the_reason_is_said() -> None:
    with pytest.raises(UsageError, match="docstrings") as caught:
        read("MV999", "integrity", None)
    assert "PYTHONOPTIMIZE" in caught.value.found


def test_a_new_id_is_one_class() -> None:
    module = ModuleType("group")
    module.GROUP = "integrity"
    module.MV998 = type("MV998", (), {"__doc__": GOOD})
    module.helper = object()
    assert [(entry.id, entry.group) for entry in entries_of(module)] == [("MV998", "integrity")]
