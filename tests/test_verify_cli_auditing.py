"""`mansu-audit`: options, exit codes, where output goes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from audited import edited, noisy, sets

from verify.cli.auditing import main
from verify.contract.audit import Audit
from verify.contract.failure import Failure

Call = Callable[..., tuple[object, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as exited:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return exited.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def after(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(tiny_base, tmp_path_factory.mktemp("after") / "edited", noisy(5e-4))


def test_the_sentence_and_the_tables(tiny_base: Path, after: Path, call: Call) -> None:
    code, out, err = call(tiny_base, after)
    assert code == 0
    assert out.startswith("NF4 will undo ")
    assert "Comparing the weights" in err
    code, brief, err = call(tiny_base, after, "-q")
    assert (code, brief, err) == (0, out.splitlines()[0] + "\n", "")
    assert len(call(tiny_base, after, "-v")[1]) >= len(out)


def test_forms_and_an_output_file(tiny_base: Path, after: Path, call: Call, tmp_path: Path) -> None:
    code, out, _ = call(tiny_base, after, "--format", "json")
    assert code == 0
    found = Audit.model_validate_json(out)
    path = tmp_path / "a.md"
    path.write_text("old")
    assert call(tiny_base, after, "--format=markdown", "-o", path)[:2] == (0, "")
    assert found.headline in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.md"]


def test_an_old_answer_does_not_outlive_an_error(tiny_base: Path, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    code, out, err = call(tiny_base, tmp_path / "no", "--format", "json", "-o", path)
    assert code == 2
    assert not path.exists()
    assert Failure.model_validate_json(out).id == "ME290"
    assert err.strip().startswith("ME290: ")  # after the empty line that the bars leave


def test_undecided_is_3_and_says_why(tiny_base: Path, after: Path, call: Call, tmp_path: Path) -> None:
    forget, _ = sets(tmp_path)
    code, out, _ = call(tiny_base, after, "--forget", forget)
    assert code == 3
    assert "Could not be decided" in out


@pytest.mark.parametrize(
    "extra",
    [
        ("-q", "-v"),
        ("--probes", "p", "--forget", "f"),
        ("--format", "sarif"),
        ("--forget", "no-such-file"),
        ("--probes", "no-such-folder"),
        ("-o", "no/such/folder"),
        ("--checks", "full"),
    ],
)
def test_usage(tiny_base: Path, after: Path, call: Call, extra: tuple[str, ...]) -> None:
    code, out, err = call(tiny_base, after, *extra)
    assert (code, out) == (2, "")
    assert err


def test_what_is_audited_is_never_written_to(tiny_base: Path, after: Path, call: Call, tmp_path: Path) -> None:
    forget, _ = sets(tmp_path)
    for place in (after / "model.safetensors", after / "audit.txt", tiny_base / "a" / "b", forget):
        code, _, err = call(tiny_base, after, "--forget", forget, "-o", place)
        assert code == 2
        assert "among what is audited" in err
    assert (after / "model.safetensors").is_file()
    assert forget.is_file()


def test_a_bug_is_4(tiny_base: Path, after: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("verify.audit.overall.compare", broken)
    code, out, err = call(tiny_base, after, "--format", "json")
    assert code == 4
    assert json.loads(out)["id"] == "ME400"
    assert "ZeroDivisionError" in err


def test_help_needs_none_of_the_libraries_and_fits(tmp_path: Path) -> None:
    code = "import sys\nfrom verify.cli.auditing import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'numba', 'numpy', 'transformers', 'pydantic', 'rich.table'} & set(sys.modules)\n"
    code += "assert not heavy, heavy\n"
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80"},
    )  # fmt: skip
    assert "mansu-audit" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_weights_alone_are_compared_without_torch(tiny_base: Path, after: Path) -> None:
    code = "import sys\nfrom verify.cli.auditing import main\n"
    code += f"try: main([{str(tiny_base)!r}, {str(after)!r}, '-q'])\nexcept SystemExit as e: assert e.code == 0\n"
    code += "assert 'torch' not in sys.modules\n"
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
