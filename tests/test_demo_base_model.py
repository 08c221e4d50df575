"""The demo's base model is written once, whole, also by two runs that begin together."""

import importlib.util
from pathlib import Path

import pytest

from mansu.demo.base_model import _name, write_base
from verify.errors import UsageError


def finished(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(content, encoding="utf-8")
    return folder


def test_a_finished_folder_gets_its_name(tmp_path: Path) -> None:
    _name(finished(tmp_path / ".base.1", "one"), tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_another_run_wrote_meanwhile_stays(tmp_path: Path) -> None:
    there = finished(tmp_path / "base", "first")
    _name(finished(tmp_path / ".base.2", "second"), there)
    assert (there / "config.json").read_text(encoding="utf-8") == "first"


def test_any_other_failure_to_rename_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _name(finished(tmp_path / ".base.3", "three"), tmp_path / "absent" / "base")
    (tmp_path / "base").write_text("a file", encoding="utf-8")
    with pytest.raises(NotADirectoryError):
        _name(tmp_path / ".base.3", tmp_path / "base")


def test_a_base_that_is_there_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    write_base(finished(tmp_path / "base", "mine"))
    with pytest.raises(UsageError) as refused:
        write_base(tmp_path / "another")
    assert refused.value.id == "ME250"
    assert not (tmp_path / "another").exists()
