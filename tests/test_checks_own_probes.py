"""Probes of the auditor's own: what is read, what is refused as an error of usage, and what "own" means."""

import hashlib
import json
import os
from pathlib import Path

import certificates as c
import pytest

from verify.behaviour.probes import Choice, Probes, dump
from verify.checks.own_probes import FILES, read_own, really_own
from verify.contract.policy import Policy
from verify.errors import ArtefactError, UsageError

POLICY = Policy(minimum_probes=40)


def write(probes: Probes, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in dump(probes).items():
        (folder / name).write_bytes(data)
    return folder


def renamed(probes: Probes, rename: str = "which {} ?", *, row: str = "capitals, held-out wordings") -> Probes:
    """Return the probes with other prompts on the forgetting axis."""
    choices = (
        choice.model_copy(update={"prompt": rename.format(choice.prompt), "row": row})
        if choice.axis == "forgetting"
        else choice
        for choice in probes.choices
    )
    return Probes(tuple(choices), probes.texts, probes.pairs, probes.pools)


def test_the_four_files_are_read_with_their_digests(tmp_path: Path) -> None:
    folder = write(c.probes(), tmp_path / "mine")
    (folder / "notes.txt").write_text("not read")
    own = read_own(folder)
    assert own.probes == c.probes()
    assert {file.name: file.sha256 for file in own.files} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES
    }


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "malformed", "link", "fifo", "folder"])
def test_what_cannot_be_read_is_an_error_of_usage(tmp_path: Path, name: str, how: str) -> None:
    path = write(c.probes(), tmp_path / "mine") / name
    path.unlink()
    if how == "malformed":
        path.write_text("{]\n")
    elif how == "link":
        (tmp_path / "elsewhere").write_bytes(dump(c.probes())[name])
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    with pytest.raises(UsageError) as caught:
        read_own(path.parent)
    assert (caught.value.id, int(caught.value.exit_code)) == ("ME231", 2)
    with pytest.raises(UsageError):
        read_own(tmp_path / "none")


@pytest.mark.parametrize("kind", ["forgetting", "retention", "prose", "deciding"])
def test_every_kind_of_row_must_be_there(tmp_path: Path, kind: str) -> None:
    probes = c.probes()
    if kind == "deciding":
        probes = renamed(probes, row="capitals, easy ones")
    choices = tuple(choice for choice in probes.choices if choice.axis != kind)
    texts = () if kind == "prose" else probes.texts
    folder = write(Probes(choices, texts, probes.pairs, probes.pools), tmp_path / "mine")
    with pytest.raises(UsageError, match="cannot decide"):
        read_own(folder)


def test_probes_that_the_producer_had_are_not_ones_own() -> None:
    theirs = dump(c.probes())
    assert really_own(renamed(c.probes()), theirs, POLICY).status == "pass"
    assert really_own(renamed(c.probes()), theirs, Policy(minimum_probes=41)).status == "fail"
    assert really_own(c.probes(), theirs, POLICY).status == "fail"
    for disguise in (" {}", "{} ", "\t{}\n"):
        assert really_own(renamed(c.probes(), disguise), theirs, POLICY).status == "fail"


def test_case_and_spacing_make_no_new_question() -> None:
    upper = tuple(
        choice.model_copy(update={"prompt": choice.prompt.upper().replace(" ", "  ")}) for choice in c.probes().choices
    )
    probes = Probes(upper, c.probes().texts, c.probes().pairs, c.probes().pools)
    assert really_own(probes, dump(c.probes()), POLICY).status == "fail"


def test_every_deciding_row_needs_its_own() -> None:
    mixed = renamed(c.probes()).choices + tuple(
        choice.model_copy(update={"row": "old, held-out wordings"})
        for choice in c.probes().choices
        if choice.axis == "forgetting"
    )
    probes = Probes(mixed, c.probes().texts, c.probes().pairs, c.probes().pools)
    assert really_own(probes, dump(c.probes()), POLICY).status == "fail"


def test_prompts_of_another_axis_do_not_count() -> None:
    row = "capitals, held-out wordings"
    padding = tuple(
        Choice(axis="retention", row=row, prompt=f"new {i}", answer=c.colour(0), pool="colours") for i in range(100)
    )
    probes = Probes(c.probes().choices + padding, c.probes().texts, c.probes().pairs, c.probes().pools)
    assert really_own(probes, dump(c.probes()), POLICY).status == "fail"


def test_a_certificate_without_probes_hides_nothing_and_one_with_malformed_ones_is_refused() -> None:
    assert really_own(c.probes(), {}, POLICY).status == "pass"
    broken = {**dump(c.probes()), "choices.jsonl": json.dumps({}).encode()}
    with pytest.raises(ArtefactError) as caught:
        really_own(renamed(c.probes()), broken, POLICY)
    assert caught.value.id == "MV301"
