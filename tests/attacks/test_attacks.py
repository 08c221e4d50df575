"""Every attack of the catalogue, end to end: the command as a process of its own, as a user or a pipeline runs it.

Some variants of an attack call the command's `main` in this process, for the time it takes. A process of its own is
watched (guard/sitecustomize.py): it ends with another exit code as soon as it opens a socket, starts a process, or
loads code from the artefact.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import catalogue
import certificates as c
import pytest
from registry import ATTACKS, Attack
from scene import Scene

from verify.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MARKUP = ("<script", "' onmouseover", '"><script')


@pytest.fixture(scope="session")
def sharded_certificate(tmp_path_factory: pytest.TempPathFactory, tiny_keys: c.Keys) -> c.Certificate:
    base = c.save_base(c.random_model(), tmp_path_factory.mktemp("shards"), shard_size="80KB")
    return c.make(base, tmp_path_factory.mktemp("sharded") / "out", tiny_keys, c.valid_edits(base))


class Said:
    """What the command said, on both streams and in its reports."""

    def __init__(self, code: object, out: str, err: str, reports: dict[str, str]) -> None:
        self.code, self.out, self.err = code, out, err
        self.html, self.text = reports.get("html", ""), reports.get("text", "")
        self.everything = {"stdout": self.out, "stderr": self.err, **reports}

    def failed(self) -> set[str]:
        checks = json.loads(self.out)["checks"]
        return {check["id"] for check in checks if check["status"] in {"fail", "undecided"}}


REPORTS = ("html", "text")


def words(scene: Scene) -> list[str]:
    """Return the command's arguments: the certificate, the key, and reports in every form."""
    model = scene.model or (scene.made.model if scene.made.model.exists() else scene.out / "model")
    key = [] if scene.keyless else ["--key", str(scene.key or scene.made.keys.public)]
    wanted = [word for form in REPORTS for word in ("--report", f"{form}={scene.folder / f'report.{form}'}")]
    arguments = [str(model), "--manifest", str(scene.made.manifest), *key, *scene.options, *wanted]
    return [*arguments, "--checks", "static", "--format", "json"]


def reports(scene: Scene) -> dict[str, str]:
    paths = {form: scene.folder / f"report.{form}" for form in REPORTS}
    return {form: path.read_text() for form, path in paths.items() if path.exists()}


def command(scene: Scene) -> Said:
    """Run the command under guard, in the certificate's own folder, and gather all that it says."""
    paths = os.pathsep.join((str(HERE / "guard"), str(ROOT)))
    environment = {k: v for k, v in os.environ.items() if k != "MANSU_KEY"}
    environment |= {"PYTHONPATH": paths, "MANSU_TEST_ARTEFACT": str(scene.out), "OMP_NUM_THREADS": "1"}
    # -P: Python looks for modules in the working folder otherwise, as the installed mansu-verify does not
    line = [sys.executable, "-P", "-m", "verify.cli", *words(scene)]
    with scene.during:
        run = subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=300, cwd=scene.out, env=environment
        )
    return Said(run.returncode, run.stdout, run.stderr, reports(scene))


def in_process(scene: Scene, capsys: pytest.CaptureFixture[str]) -> Said:
    """Call the command's own `main`: all of the command but the interpreter's start, fifty times as fast."""
    capsys.readouterr()
    with scene.during, pytest.raises(SystemExit) as exited:
        main(words(scene))
    captured = capsys.readouterr()
    return Said(exited.value.code, captured.out, captured.err, reports(scene))


def require_harmless(said: Said) -> None:
    """Nothing that was said speaks to a terminal, a browser or a CI log."""
    for where, text in said.everything.items():
        assert not CONTROL.search(text), where
        assert not re.search(r"^\s*::|##\[|##vso", text, re.MULTILINE), where
    assert "::" not in said.text
    assert not any(mark in said.html for mark in MARKUP)


def test_there_are_enough_attacks_on_every_threat() -> None:
    assert sum(attack.process for attack in ATTACKS.values()) >= 110
    threats = {attack.threat for attack in ATTACKS.values()}
    assert threats == {name for name in vars(catalogue) if not name.startswith("_")} - {"annotations"}
    assert all(attack.checks for attack in ATTACKS.values())


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_refused(
    attack: Attack,
    tiny_certificate: c.Certificate,
    sharded_certificate: c.Certificate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MANSU_KEY", raising=False)
    honest = sharded_certificate if attack.sharded else tiny_certificate
    scene = Scene(honest.copied_to(tmp_path / "out"), tmp_path)
    if attack.sharded:
        scene.model = scene.out / "model"
    attack.spoil(scene)
    said = command(scene) if attack.process else in_process(scene, capsys)
    assert said.code == attack.code, said.err[-2000:]
    for where, text in said.everything.items():
        assert "PASS" not in text, where
    assert not scene.marker.exists()
    require_harmless(said)
    if attack.code == 2:
        assert json.loads(said.out)["exit_code"] == attack.code
        assert all(check in said.err for check in attack.checks)
        return
    assert json.loads(said.out)["verdict"] == {1: "FAIL", 3: "UNDECIDED"}[attack.code]
    missed = set(attack.checks) - said.failed()
    assert len(missed) < len(attack.checks) if attack.either else not missed, said.failed()
    for check in set(attack.checks) & said.failed():
        assert check in said.html
        assert check in said.text


@pytest.mark.parametrize("sharded", [False, True])
def test_the_honest_certificate_is_accepted_by_the_same_command(
    sharded: bool, tiny_certificate: c.Certificate, sharded_certificate: c.Certificate, tmp_path: Path
) -> None:
    """Without this, a command that refuses everything would be called safe."""
    honest = sharded_certificate if sharded else tiny_certificate
    scene = Scene(honest.copied_to(tmp_path / "out"), tmp_path)
    scene.model = scene.out / "model"
    said = command(scene)
    assert (said.code, said.failed()) == (0, set())
    assert "PASS" in said.out
    scene.resign()
    assert command(scene).code == 0, "what the attacks sign is accepted where nothing was spoiled"


def test_an_honest_hard_link_is_no_attack(tiny_certificate: c.Certificate, tmp_path: Path) -> None:
    """Caches and backups link files hard; the bytes count."""
    scene = Scene(tiny_certificate.copied_to(tmp_path / "out"), tmp_path)
    scene.path("model/config.json").unlink()
    scene.path("model/config.json").hardlink_to(tiny_certificate.base / "config.json")
    assert command(scene).code == 0
