"""Folders that appear whole or not at all, whatever comes in between."""

from pathlib import Path

import pytest

from mansu.staging import staging
from verify.errors import UsageError


def test_what_is_written_appears_under_its_name(tmp_path: Path) -> None:
    with staging(tmp_path / "new" / "out") as folder:
        (folder / "file").write_text("whole", encoding="utf-8")
        assert not (tmp_path / "new" / "out").exists()
    assert (tmp_path / "new" / "out" / "file").read_text(encoding="utf-8") == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def half(folder: Path) -> None:
        (folder / "file").write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(error), staging(tmp_path / "out") as folder:
        half(folder)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_as_soon_as_the_folder_is_there_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def interrupted(path: Path, *arguments: int, **named: int) -> None:
        make(path, *arguments, **named)  # type: ignore[arg-type]
        if path.suffix == ".partial":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), staging(tmp_path / "out"):
        pytest.fail("the folder is not given out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught, staging(tmp_path):
        pytest.fail("nothing is to be written")
    assert caught.value.id == "ME220"


def test_a_parent_that_cannot_be_made_is_an_error_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught, staging(tmp_path / "file" / "out"):
        pytest.fail("nothing can be written there")
    assert caught.value.id == "ME220"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
