"""What a cell was made with: packages, and the commit where there is one."""

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from mansu.bench.study import versions as v


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(v, "_CHECKOUT", tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True).stdout


def test_a_commit_is_told_and_whether_it_was_changed(checkout: Path) -> None:
    git(checkout, "init")
    (checkout / "file").write_text("1", encoding="utf-8")
    git(checkout, "add", "file")
    git(checkout, "commit", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD").strip()[:12]
    assert v.versions()["commit"] == commit
    (checkout / "file").write_text("2", encoding="utf-8")
    assert v.versions()["commit"] == f"{commit}-dirty"


def test_without_a_checkout_nothing_is_said(checkout: Path) -> None:
    found = v.versions()
    assert "commit" not in found
    assert found["torch"] == importlib.metadata.version("torch")
    (checkout / ".git").mkdir()  # one that git cannot read
    assert "commit" not in v.versions()


def test_a_package_that_is_not_there_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v, "_REPORTED", ("no-such-package",))
    assert v.versions()["no-such-package"] == "not installed"
