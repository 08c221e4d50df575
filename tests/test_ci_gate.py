"""The gates of action.yml, docs/ci and .pre-commit-hooks.yaml, by running their steps on a certificate that holds and
on one with a byte flipped. Only what installs is left out: the command that the tests run with is on the path.
"""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import fromstring

import certificates as c
import pytest
import runner
from runner import ROOT, Job

ACTION = ROOT / "action.yml"
CI = ROOT / "docs" / "ci"
INSTALL = ("Install mansu",)
PLACES = {"model": "release/model", "manifest": "release/m.json", "key": "trusted/producer.pem"}
"""Where the examples of docs/ci expect a certificate and its key."""

Checkout = Callable[..., Path]


@pytest.fixture
def checkout(tiny_certificate: c.Certificate, tmp_path: Path) -> Checkout:
    """Return a function that lays out a repository as the examples expect it; `spoiled` has one bit flipped."""

    def make(folder: str = "checkout", *, spoiled: bool = False) -> Path:
        root = tmp_path / folder
        (root / "trusted").mkdir(parents=True)
        made = tiny_certificate.copied_to(root / "release")
        shutil.copy(made.keys.public, root / "trusted" / "producer.pem")
        if spoiled:
            data = bytearray(made.model.read_bytes())
            data[-1] ^= 1
            made.model.write_bytes(data)
        return root

    return make


def job(workspace: Path) -> Job:
    temporary = workspace.parent / "runner"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return Job(workspace, temporary)


@pytest.mark.parametrize(("spoiled", "verdict", "code"), [(False, "PASS", 0), (True, "FAIL", 1)])
def test_the_workflow_fails_unless_the_certificate_holds(
    checkout: Checkout, spoiled: bool, verdict: str, code: int
) -> None:
    root = checkout(spoiled=spoiled)
    done = job(root)
    steps = runner.load(CI / "github.yml")["jobs"]["verify"]["steps"]
    runner.run(done, steps, local={"./.mansu": ACTION}, skip=INSTALL)
    assert (done.failed, done.code) == (code != 0, code), done.log
    out = done.outputs["certificate"]
    assert (out["verdict"], out["exit-code"]) == (verdict, str(code))
    result = root / out["result"]
    assert json.loads(result.read_text())["verdict"] == verdict
    assert done.summary.startswith(f"## {'✅' if code == 0 else '❌'} {verdict}: unlearning certificate")
    assert ("PASS" in done.summary) is (code == 0)
    assert f"verdict: {verdict}" in done.log
    assert hashlib.sha256(result.read_bytes()).hexdigest() in done.log
    reports = root / "mansu-reports"
    assert {path.name for path in reports.iterdir()} == {"result.json", "result.sarif", "report.html", "junit.xml"}
    # what the steps of others are given, and that they are given it after a failure too
    given = dict(done.used)
    assert list(given) == [
        "actions/checkout@v4",
        "actions/setup-python@v5",
        "github/codeql-action/upload-sarif@v3",
        "actions/upload-artifact@v4",
    ]
    sarif = json.loads((root / given["github/codeql-action/upload-sarif@v3"]["sarif_file"]).read_text())
    assert bool(sarif["runs"][0]["results"]) is (code != 0)
    assert given["actions/upload-artifact@v4"]["path"].rstrip("/") == reports.name


HOSTILE = """$(touch x) `touch x` "; touch x; ' && touch x #"""


def test_no_input_is_code(checkout: Checkout) -> None:
    """A certificate under a hostile name is checked like any other, and nothing in the name happens."""
    root = checkout(HOSTILE)
    done = job(root.parent)
    inputs = {name: f"{HOSTILE}/{path}" for name, path in PLACES.items()}
    out = runner.use(done, ACTION, {**inputs, "checks": "static", "reports": f"{HOSTILE}/r"}, skip=INSTALL)
    assert (out["verdict"], done.code) == ("PASS", 0), done.log
    assert out["result"] == f"{HOSTILE}/r/result.json"
    assert not list(root.parent.rglob("x"))


INPUTS = ("model", "manifest", "key", "checks", "policy", "probes", "base-digest", "arguments")


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, HOSTILE) for name in INPUTS), *((name, "--version") for name in ("model", "key", "arguments"))],
)
def test_a_value_that_cannot_be_used_is_refused_and_does_nothing(
    checkout_once: Path, tmp_path: Path, name: str, value: str
) -> None:
    done = Job(checkout_once, tmp_path)
    before = sorted(checkout_once.rglob("*"))
    given = {**PLACES, "checks": "static", "reports": str(tmp_path / "reports"), name: value}
    out = runner.use(done, ACTION, given, skip=INSTALL)
    assert done.failed
    assert out["verdict"] == "ERROR"
    assert out["exit-code"] == str(done.code) != "0"
    assert (out["result"], out["sarif"]) == ("", "")
    assert "PASS" not in done.summary
    assert sorted(checkout_once.rglob("*")) == before


@pytest.fixture(scope="module")
def checkout_once(tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that no test writes to."""
    root = tmp_path_factory.mktemp("once")
    made = tiny_certificate.copied_to(root / "release")
    (root / "trusted").mkdir()
    shutil.copy(made.keys.public, root / "trusted" / "producer.pem")
    return root


def test_an_old_result_is_not_taken_for_this_runs(checkout_once: Path, tmp_path: Path) -> None:
    done = Job(checkout_once, tmp_path)
    (tmp_path / "reports").mkdir()
    for name in ("result.json", "result.sarif"):
        (tmp_path / "reports" / name).write_text('{"verdict": "PASS"}')
    given = {**PLACES, "reports": str(tmp_path / "reports"), "arguments": "--explain=MV203"}
    out = runner.use(done, ACTION, given, skip=INSTALL)
    assert (out["verdict"], out["exit-code"], out["result"], done.failed) == ("ERROR", "4", "", True)


def test_two_lines_cannot_name_an_output(checkout_once: Path, tmp_path: Path) -> None:
    done = Job(checkout_once, tmp_path)
    out = runner.use(done, ACTION, {**PLACES, "reports": "r\nverdict=PASS"}, skip=INSTALL)
    assert (out["verdict"], done.code) == ("", 2)


def test_what_is_installed_is_the_torch_that_was_named_and_the_actions_own_folder(tmp_path: Path) -> None:
    """The step runs with a `python` that writes down its arguments in place of one that installs."""
    recorder = tmp_path / "bin" / "python"
    recorder.parent.mkdir()
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> "$RECORD"\n')
    recorder.chmod(0o755)
    (step,) = [step for step in runner.load(ACTION)["runs"]["steps"] if step.get("name") in INSTALL]
    env = {"RECORD": str(tmp_path / "record"), "TORCH_VERSION": HOSTILE, "GITHUB_ACTION_PATH": "/the action"}
    path = f"{recorder.parent}:/usr/bin:/bin"
    assert runner.bash(step["run"], tmp_path, {"PATH": path, **env}).returncode == 0
    words = (tmp_path / "record").read_text().splitlines()
    assert [word for word in words if not word.startswith("-")] == [
        *("pip", "install", f"torch=={HOSTILE}"),
        *("pip", "install", "/the action"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "record"]


def test_the_action_and_the_hook_pin_the_torch_of_the_makefile() -> None:
    (pinned,) = set(re.findall(r"torch==(\S+)", (ROOT / "Makefile").read_text()))
    assert runner.load(ACTION)["inputs"]["torch-version"]["default"] == pinned
    assert runner.load(ROOT / ".pre-commit-hooks.yaml")[0]["additional_dependencies"] == [f"torch=={pinned}"]
    assert f"torch=={pinned}" in (CI / "gitlab.yml").read_text()


def test_scripts_hold_no_expression_and_every_input_is_used() -> None:
    document = runner.load(ACTION)
    steps = document["runs"]["steps"]
    assert all(step.get("shell") == "bash" for step in steps if "run" in step)
    assert not any("${{" in step.get("run", "") for step in steps)
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(steps)))
    assert used == document["inputs"].keys()
    assert all(entry["description"] for part in ("inputs", "outputs") for entry in document[part].values())


@pytest.mark.parametrize(("spoiled", "code"), [(False, 0), (True, 1)])
def test_the_pre_commit_hook(checkout: Checkout, spoiled: bool, code: int) -> None:
    root = checkout(spoiled=spoiled)
    (hook,) = runner.load(ROOT / ".pre-commit-hooks.yaml")
    (repo,) = runner.load(CI / "pre-commit.yaml")["repos"]
    (configured,) = repo["hooks"]
    assert configured["id"] == hook["id"]
    assert (hook["pass_filenames"], hook["always_run"], hook["language"]) == (False, True, "python")
    words = [*shlex.split(hook["entry"]), *configured["args"]]  # pre-commit starts it without a shell
    done = subprocess.run(words, cwd=root, env=runner.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("FAIL" if code else "PASS")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(("spoiled", "code"), [(False, 0), (True, 1)])
def test_the_gitlab_job(checkout: Checkout, spoiled: bool, code: int) -> None:
    root = checkout(spoiled=spoiled)
    gate = runner.load(CI / "gitlab.yml")["certificate"]
    assert all(line.startswith("python -I -m pip install ") for line in gate["before_script"])
    done = runner.bash("\n".join(gate["script"]), root, runner.environment(**gate["variables"]))
    assert done.returncode == code, done.stderr
    suite = fromstring((root / gate["artifacts"]["reports"]["junit"]).read_text())
    assert (suite.get("failures") == suite.get("errors") == "0") is (code == 0)
    assert gate["artifacts"]["when"] == "always"
    (kept,) = gate["artifacts"]["paths"]
    assert {path.name for path in (root / kept).iterdir()} == {"result.json", "report.html", "junit.xml"}


def test_the_documentation_names_every_file_and_every_input() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for path in ("../action.yml", "../.pre-commit-hooks.yaml", "ci/github.yml", "ci/gitlab.yml", "ci/pre-commit.yaml"):
        assert f"]({path})" in text
    for part in ("inputs", "outputs"):
        for name in runner.load(ACTION)[part]:
            assert f"| `{name}` |" in text
