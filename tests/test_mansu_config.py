"""A configuration file: what it may set, and that a bad one is told before any work."""

from pathlib import Path

import pytest

from mansu.config import Config, read_config
from verify.errors import UsageError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert read_config(None) == Config()


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    found = read_config(written(tmp_path, "seed = 3\nsnaps = [0.5, 1.0]\n"))
    assert found == Config(seed=3, snaps=(0.5, 1.0))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = 3", "seeds"),
        ("mask_share = 0.1", "mask_share"),
        ("seed = ", "not TOML"),
        (b"\xff", "not TOML"),
        ("snaps = []", "snaps"),
        ("snaps = [0.6, 0.6]", "the last one 1"),
        ("snaps = [0.0, 1.0]", "above 0"),
        ("snaps = [1.5, 1.0]", "at most 1"),
        ("snaps = [nan, 1.0]", "snaps"),
        ("[[profiles]]\nblock_size = 63\ndouble_quant = false", "profiles"),
    ],
)
def test_a_bad_file_is_refused_and_says_where(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_config(written(tmp_path, text))
    assert refused.value.id == "ME205"
    assert told in refused.value.diagnostic()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="configuration") as refused:
        read_config(tmp_path / "absent.toml")
    assert refused.value.id == "ME205"
