"""As much of a GitHub runner as our action and workflow use: run steps by bash, inputs, outputs and conditions.

Steps that use other actions are not run but recorded, with what they are given. What this runner does not know is an
error, so that a step cannot pass by not being understood.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TERM = re.compile(r"([\w.-]+) (==|!=) '([^']*)'")


@dataclass
class Job:
    """A job in a folder of its own: what its steps wrote, and what they used."""

    workspace: Path
    temporary: Path
    failed: bool = False
    code: int = 0
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    used: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    log: str = ""

    @property
    def summary(self) -> str:
        path = self.temporary / "summary"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def environment(**more: str) -> dict[str, str]:
    """Return what a runner's shell has: our own command on the path, this tree's modules, and nothing of ours else."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HOME": os.environ.get("HOME", "/"),
        **more,
    }


def bash(script: str, folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script as `shell: bash` does."""
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(words, cwd=folder, env=dict(env), capture_output=True, text=True, check=False)


def use(job: Job, action: Path, given: Mapping[str, str], *, skip: Sequence[str] = ()) -> dict[str, str]:
    """Run a composite action with its defaults filled in, leaving out the steps named in `skip`; return its outputs."""
    document = load(action)
    unknown = given.keys() - document["inputs"].keys()
    assert not unknown, f"no such inputs: {unknown}"
    inputs = {name: str(given.get(name, entry.get("default", ""))) for name, entry in document["inputs"].items()}
    inner = Job(job.workspace, job.temporary)
    assert document["runs"]["using"] == "composite"
    steps = [step for step in document["runs"]["steps"] if step["name"] not in skip]
    run(inner, steps, inputs=inputs, action_path=action.parent)
    job.failed, job.code, job.used, job.log = inner.failed, inner.code, job.used + inner.used, job.log + inner.log
    return {name: _filled(entry["value"], inner, inputs) for name, entry in document["outputs"].items()}


def run(
    job: Job,
    steps: Sequence[Mapping[str, Any]],
    *,
    inputs: Mapping[str, str] | None = None,
    action_path: Path = ROOT,
    local: Mapping[str, Path] | None = None,
    skip: Sequence[str] = (),
) -> None:
    """Run steps in order. `local` are actions by what `uses` calls them; `skip` goes to them."""
    inputs = inputs or {}
    for number, step in enumerate(steps):
        if not _due(str(step.get("if", "")), job, inputs):
            continue
        given = {
            key: _filled(str(value).lower() if isinstance(value, bool) else str(value), job, inputs)
            for key, value in step.get("with", {}).items()
        }
        name = step.get("id", str(number))
        if step.get("uses") in (local or {}):
            job.outputs[name] = use(job, (local or {})[step["uses"]], given, skip=skip)
        elif "uses" in step:
            assert re.fullmatch(r"[\w-]+(/[\w-]+)+@v\d+", step["uses"])
            job.used.append((step["uses"], given))
        else:
            _script(job, step, name, inputs, action_path)


def _script(job: Job, step: Mapping[str, Any], name: str, inputs: Mapping[str, str], action_path: Path) -> None:
    assert step.keys() <= {"name", "id", "if", "shell", "env", "run"}
    assert "${{" not in step["run"], "an expression in a script is code"
    output = job.temporary / f"output-{name}"
    output.touch()
    files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(job.temporary / "summary")}
    own = {key: _filled(value, job, inputs) for key, value in step.get("env", {}).items()}
    env = environment(**files, GITHUB_ACTION_PATH=str(action_path), **own)
    done = bash(step["run"], job.workspace, env)
    job.log += done.stdout + done.stderr
    job.outputs[name] = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    if done.returncode:
        job.failed, job.code = True, done.returncode


def _filled(text: str, job: Job, inputs: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda match: _value(match[1].strip(), job, inputs), text)


def _value(name: str, job: Job, inputs: Mapping[str, str]) -> str:
    parts = name.split(".")
    if parts[0] == "inputs":
        return inputs[parts[1]]
    assert (parts[0], parts[2]) == ("steps", "outputs"), f"an expression that is not known: {name}"
    return job.outputs.get(parts[1], {}).get(parts[3], "")


def _due(condition: str, job: Job, inputs: Mapping[str, str]) -> bool:
    """Tell whether a step runs: by its condition, which without a status function includes that nothing failed."""
    expression = condition.removeprefix("${{").removesuffix("}}").strip()
    terms = [term.strip() for term in expression.split("&&") if term.strip()]
    due = "!cancelled()" in terms or not job.failed
    for term in terms:
        if term != "!cancelled()":
            match = _TERM.fullmatch(term)
            assert match, f"a condition that is not known: {term}"
            due &= (_value(match[1], job, inputs) == match[3]) is (match[2] == "==")
    return due
