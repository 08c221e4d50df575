"""The table of ablations: every row changes what it names and nothing else."""

from pathlib import Path

import pytest

from benchmarks.ablations import toml
from mansu.bench.ablations import ABLATIONS, ablated
from mansu.bench.study.edits import MANSU, method_names, title_of
from mansu.config import Config, read_config
from verify.errors import UsageError

PAGE = (Path(__file__).parent.parent / "docs" / "masks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("config", [Config(), Config(seed=3, steps=5, snaps=(0.5, 1.0))], ids=["default", "own"])
def test_an_ablation_changes_what_it_names_and_nothing_else(name: str, config: Config) -> None:
    before, after = config.model_dump(), ablated(name, config).model_dump()
    assert {field for field in before if before[field] != after[field]} == ABLATIONS[name].keys()
    Config.model_validate(after, strict=False)  # a copy is not validated


def test_every_row_is_another_configuration() -> None:
    rows = [ablated(name) for name in ABLATIONS]
    assert all(row != other for place, row in enumerate(rows) for other in (Config(), *rows[:place]))


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_benchmark_writes_what_the_command_reads(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(toml({"seed": 1, **ABLATIONS[name]}))
    assert read_config(path) == ablated(name, Config(seed=1))


def test_the_documentation_has_every_row_with_its_switches() -> None:
    for name, changes in ABLATIONS.items():
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
        assert all(f"`{switch}`" in line for switch in toml(changes).splitlines())


def test_another_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="no such ablation") as caught:
        ablated("no mask")
    assert caught.value.id == "ME330"
    assert "snap at once" in caught.value.expected


def test_the_benchmark_takes_every_ablation_by_name_and_none_unasked() -> None:
    assert not ABLATIONS.keys() & set(method_names())
    assert [title_of(name) for name in ABLATIONS] == [f"{MANSU}, {name}" for name in ABLATIONS]
